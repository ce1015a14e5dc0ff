"""Small graphs of facts, written to a folder and opened."""

from recipec.runtime.context import StageContext
from recipec.spec.knowledge import Triples

SKIN = """\
psoriasis\thas symptom\tscaling
psoriasis\thas symptom\tskin plaques
psoriasis\tnot_has symptom\tfever
psoriasis\ttreated by\ttopical steroids
eczema\thas symptom\titching
eczema\thas symptom\tblisters of the hands
eczema\tcaused by\tallergy
"""
CLASSES = """\
@prefix rdfs: <http://www.w3.org/2000/01/rdf-schema#> .
@prefix owl: <http://www.w3.org/2002/07/owl#> .
@prefix skos: <http://www.w3.org/2004/02/skos/core#> .
@prefix n: <urn:x-name:> .
<urn:x-name:blisters%20of%20the%20hands> rdfs:subClassOf n:blisters .
n:blisters rdfs:label "blisters" ; skos:altLabel "vesicles"@en ; rdfs:subClassOf n:lesions .
n:lesions rdfs:label "lesions" .
n:fever skos:altLabel "Pyrexia"@en .
n:psoriasis rdfs:subClassOf n:papulosquamous .
n:papulosquamous rdfs:label "papulosquamous disease" ; owl:disjointWith n:infection .
n:infection rdfs:label "infection" .
n:mycosis rdfs:label "fungal infection" ; rdfs:subClassOf n:infection .
"""


def setting_in(folder, **more):
    """Return a setting whose recipe and cache lie in a folder."""
    return StageContext(root=folder, cache=folder / "cache", seed=0, stage="align", **more)


def graph_of(folder, files, **params):
    """Write files and open the graph of them all."""
    for name, text in files.items():
        (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    spec = Triples(path=tuple(files), **params)
    return spec.load()(spec, setting_in(folder))


def skin(folder, **params):
    """Open the graph of two skin diseases with its classes."""
    return graph_of(folder, {"skin.tsv": SKIN, "classes.ttl": CLASSES}, **params)
