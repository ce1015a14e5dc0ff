"""Models and what is computed with them; the policy that they make is one level up.

``weights`` looks at them and loads them, ``package`` finds them in a Python package, ``scratch`` builds new ones.
``adapter`` and ``four_bits`` are how fewer weights train or fit, ``head`` and ``linear`` how they are computed.
"""
