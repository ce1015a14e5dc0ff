"""Attacks by the chat template of a model, rendered in a child with limits."""

from __future__ import annotations

from attacks.attack import DONE, Attack, Scene

_HELLO = {"messages": [{"role": "user", "content": "hi"}], "add_generation_prompt": True}


def renders(source: str, expected: str | None = None):
    """Render a conversation; the text is as expected, or has at least nothing of Python's inside."""

    def act(scene: Scene) -> None:
        from recipec.host.chat_template import ChatTemplate

        text = ChatTemplate(source.replace("CANARY", str(scene.canary))).render(_HELLO)
        if expected is None:
            assert not any(word in text for word in ("<class", "function", "module", "built-in", "root:", "/bin")), text
        else:
            assert text == expected, text

    return act


ATTACKS = [
    Attack(
        "chat-popen",
        "CVE-2024-34359",
        "RC730",
        renders(
            "{% for x in ().__class__.__base__.__subclasses__() %}{% if 'warning' in x.__name__ %}"
            "{{ x()._module.__builtins__['__import__']('os').popen('touch CANARY').read() }}{% endif %}{% endfor %}"
        ),
    ),
    Attack(
        "chat-globals",
        "CVE-2024-34359",
        "RC730",
        renders("{{ raise_exception.__globals__['os'].system('touch CANARY') }}"),
    ),
    Attack("chat-clock-globals", "CVE-2024-34359", "RC730", renders("{{ strftime_now.__self__.__class__.__mro__ }}")),
    Attack(
        "chat-cycler", "CWE-1336", "RC730", renders("{{ cycler.__init__.__globals__.os.popen('touch CANARY').read() }}")
    ),
    Attack("chat-lipsum", "CWE-1336", "RC730", renders("{{ lipsum.__globals__['os'].popen('touch CANARY').read() }}")),
    Attack("chat-namespace", "CWE-1336", "RC730", renders("{{ namespace.__init__.__globals__ }}")),
    Attack(
        "chat-self",
        "CWE-1336",
        "RC730",
        renders("{{ self._TemplateReference__context.environment.loader }}{{ self.__init__.__globals__ }}"),
    ),
    Attack("chat-format", "CVE-2016-10745", "RC730", renders("{{ '{0.__class__.__mro__}'.format(messages) }}")),
    Attack("chat-format-map", "CVE-2019-10906", DONE, renders("{{ '{a.__class__}'.format_map({'a': messages}) }}")),
    Attack(
        "chat-attr-format",
        "CVE-2025-27516",
        "RC730",
        renders("{{ ('{0.__class__.__mro__}' | attr('format'))(messages) }}"),
    ),
    Attack(
        "chat-map-format",
        "CVE-2024-56326",
        "RC730",
        renders("{% set f = '{0.__class__.__mro__}'.format %}{{ [messages] | map(f) | list }}"),
    ),
    Attack("chat-attr-class", "CWE-1336", "RC730", renders("{{ (messages | attr('__class__')).__mro__ }}")),
    Attack("chat-getitem-class", "CWE-1336", "RC730", renders("{{ messages['__class__']['__mro__'] }}")),
    Attack(
        "chat-hex-class", "CWE-1336", "RC730", renders(r"{{ messages | attr('\x5f\x5fclass\x5f\x5f') | attr('mro') }}")
    ),
    Attack("chat-mutates", "CWE-471", "RC730", renders("{{ messages.append(1) }}")),
    Attack("chat-include", "CWE-98", "RC730", renders("{% include '/etc/passwd' %}")),
    Attack("chat-import", "CWE-98", "RC730", renders("{% import 'os' as os %}{{ os.system('touch CANARY') }}")),
    Attack("chat-extends", "CWE-98", "RC730", renders("{% extends '../../../../etc/passwd' %}")),
    Attack(
        "chat-nested-loops",
        "CWE-834",
        "RC730",
        renders("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"),
    ),
    Attack("chat-range-bomb", "CWE-770", "RC730", renders("{{ range(10**12) | list }}")),
    Attack("chat-repeat-bomb", "CWE-770", "RC730", renders("{{ 'a' * 3000000000 }}")),
    Attack("chat-list-bomb", "CWE-770", "RC730", renders("{{ ([0] * 10**9) | length }}")),
    Attack("chat-power-bomb", "CWE-400", "RC730", renders("{{ 9 ** (9 ** (9 ** 9)) }}")),
    Attack("chat-constant-folding", "CWE-400", "RC730", renders("{% set x = 'a' * 10**10 %}{{ x | length }}")),
    Attack("chat-center-bomb", "CWE-770", "RC730", renders("{{ 'a' | center(10**10) }}")),
    Attack("chat-format-width", "CWE-770", "RC730", renders("{{ '%9999999999d' | format(1) }}")),
    Attack("chat-indent-bomb", "CWE-770", "RC730", renders("{{ messages | tojson(indent=10**10) }}")),
    Attack("chat-endless-macro", "CWE-674", "RC730", renders("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}")),
    Attack(
        "chat-recursive-loop",
        "CWE-674",
        "RC730",
        renders("{% for m in messages recursive %}{{ loop(messages) }}{% endfor %}"),
    ),
    Attack("chat-output-bomb", "CWE-770", "RC730", renders("{% for i in range(99999) %}{{ 'a' * 1000 }}{% endfor %}")),
    Attack("chat-surrogate", "CWE-176", "RC730", renders(r"{{ '\ud800' }}")),
    Attack("chat-deep", "CWE-674", "RC730", renders("{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}")),
    Attack("chat-huge-integer", "CVE-2020-10735", "RC730", renders("{{ " + "9" * 9000 + " }}")),
    Attack("chat-syntax", "CWE-20", "RC730", renders("{% for %}")),
    Attack("chat-escape-error", "CWE-150", "RC730", renders("{{ raise_exception('\x1b]0;x\x07\r\nforged') }}")),
    Attack("chat-urlize", "CVE-2020-28493", DONE, renders("{{ ('a@' + 'a.' * 5000) | urlize | length > 0 }}", "True")),
    Attack("chat-xmlattr", "CVE-2024-22195", "RC730", renders("{{ {'a b=1 onload=alert(1)': 1} | xmlattr }}")),
    Attack("chat-clock-bomb", "CWE-400", DONE, renders("{{ strftime_now('%Y' * 1000) | length }}", "4000")),
    Attack("chat-debug", "CWE-200", "RC730", renders("{% debug %}")),
    Attack("chat-do", "CWE-94", "RC730", renders("{% do messages.clear() %}")),
]
