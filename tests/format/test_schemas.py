"""The JSON Schemas of docs/ describe the records that are made: a look at keys, types, choices and least values."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import structs

import uniqdb
from engines import options
from uniqdb.format import Status
from uniqdb.granularity import Granularity
from uniqdb.outbox import read_due
from uniqdb.quarantine import Quarantined, read_quarantine
from uniqdb.record import CountRecord
from uniqdb.stream.emission import DeadLetter, dead_letter, work_out
from uniqdb.visit import Reason
from uniqdb.writer import nothing

DOCS = Path(__file__).parents[2] / "docs"
TYPES: dict[str, type] = {"string": str, "integer": int, "boolean": bool}
Schema = dict[str, Any]


def schema(name: str) -> Schema:
    found: Schema = json.loads((DOCS / f"{name}.schema.json").read_text("utf-8"))
    return found


def faults(schema: Schema, value: dict[str, Any]) -> Iterator[str]:
    """What is wrong with a value, by those words of JSON Schema that ours use."""
    yield from (f"{name} is missing" for name in schema["required"] if name not in value)
    for name, one in value.items():
        rule = schema["properties"].get(name)
        if rule is None:
            yield f"{name} is not described"
        elif type(one) is not TYPES[rule["type"]]:
            yield f"{name} is no {rule['type']}"
        elif one not in rule.get("enum", [one]) or (isinstance(one, int) and one < rule.get("minimum", one)):
            yield f"{name} cannot be {one}"


@pytest.fixture
def records(store_path: Path) -> dict[str, list[bytes]]:
    """Of every kind: buckets, a window that is published, one that is asked for, an interval, refused records."""
    times = [1_468_244_384 + 900 * number for number in range(300)]
    refused = [Quarantined("malformed", "visits/0", b"{bad\xff", 7), Quarantined("no_value", "visits/0", b"", 8)]
    with uniqdb.open(store_path, options=options()) as db:
        db.add_many(times, ["ann", "ben", "cleo"] * 100, source="web")
        db.add_new_data("noon", "ann")
        db.add_new_data(times[0], "late")
        db.commit()
        db.write(structs.replace(nothing(), is_publishing=True, refused=refused))
        with db.snapshot() as snapshot:
            view = snapshot.answers.view
            counts = [one.to_json() for kind in Granularity for one in db.series(kind.word)]
            counts += [work_out(snapshot, key)[2] for key in read_due(view)]
            counts += [db.count("24h").to_json(), db.count_between("2016-07-11", "2016-07-13").to_json()]
            letters = [dead_letter(*one) for one in read_quarantine(view)]
    return {"record": counts, "dead_letter": letters}


@pytest.mark.parametrize("name", ["record", "dead_letter"])
def test_records_are_as_described(name: str, records: dict[str, list[bytes]]) -> None:
    values = list(map(json.loads, records[name]))
    assert len(values) >= 3
    assert [list(faults(schema(name), one)) for one in values] == [[]] * len(values)


@pytest.mark.parametrize(("name", "kind"), [("record", CountRecord), ("dead_letter", DeadLetter)])
def test_fields_are_those_of_the_program(name: str, kind: type[msgspec.Struct]) -> None:
    made = msgspec.json.schema(kind)["$defs"][kind.__name__]
    assert list(schema(name)["properties"]) == list(made["properties"])
    assert schema(name)["required"] == made["required"]


def test_choices_are_all_there() -> None:
    record = schema("record")["properties"]
    assert record["status"]["enum"] == [one.word for one in Status]
    assert record["granularity"]["enum"] == [*(one.word for one in Granularity), "window", "interval"]
    assert schema("dead_letter")["properties"]["reason"]["enum"] == [str(one) for one in Reason]


def test_faults_are_found() -> None:
    described = schema("dead_letter")
    wrong = {"id": -1, "reason": "dull", "position": True, "colour": "red"}
    assert list(faults(described, wrong)) == [
        "source is missing",
        "id cannot be -1",
        "reason cannot be dull",
        "position is no integer",
        "colour is not described",
    ]
