"""Read exports with another tool and print what it finds, as JSON: `python reading.py TOOL FOLDER`.

Run by the Python of .venv-bench. FOLDER has counts, members and sets by day, in each format; a set is a Roaring bitmap.
"""

import base64
import csv
import json
import sys
from pathlib import Path
from typing import Any

Found = dict[str, Any]
LAST_DAYS = 30


def read_with_duckdb(folder: Path) -> Found:
    import duckdb

    duckdb.sql("SET TimeZone = 'Europe/Zurich'")
    counts, members = (
        {
            form: f"'{folder / name}.{form}'" if form != "csv" else f"read_csv('{folder / name}.csv', header = true)"
            for form in ("parquet", "csv", "jsonl")
        }
        for name in ("counts", "members")
    )
    sets = f"'{folder}/sets-parquet/sets.parquet'"
    trailing = (
        "SELECT count(DISTINCT uid) FROM {0} WHERE start_ts IN "
        f"(SELECT DISTINCT start_ts FROM {{0}} ORDER BY 1 DESC LIMIT {LAST_DAYS})"
    )
    per_day = "SELECT start_ts, count(*), count(DISTINCT uid) FROM {} GROUP BY 1 ORDER BY 1"
    return {
        "counts": {
            form: duckdb.sql(f"SELECT start_ts, count, visits FROM {table} ORDER BY start_ts").fetchall()
            for form, table in counts.items()
        },
        "times": [
            one.isoformat()
            for (one,) in duckdb.sql(f"SELECT datetime FROM {counts['parquet']} ORDER BY start_ts").fetchall()
        ],
        "types": {one[0]: one[1] for one in duckdb.sql(f"DESCRIBE FROM {sets}").fetchall()},
        "members": {form: duckdb.sql(per_day.format(table)).fetchall() for form, table in members.items()},
        "windows": {form: duckdb.sql(trailing.format(table)).fetchall()[0][0] for form, table in members.items()},
        "everybody": sorted(one[0] for one in duckdb.sql(f"SELECT DISTINCT uid FROM {members['parquet']}").fetchall()),
        "sets": duckdb.sql(f'SELECT start_ts, count, octet_length("set") FROM {sets} ORDER BY 1').fetchall(),
    }


def read_with_polars(folder: Path) -> Found:
    import polars

    counts = polars.read_parquet(folder / "counts.parquet")
    members = polars.read_parquet(folder / "members.parquet")
    last = members["start_ts"].unique().sort()[-LAST_DAYS]
    per_day = members.group_by("start_ts").agg(polars.len(), polars.col("uid").n_unique().alias("distinct"))
    lines = polars.read_ndjson(folder / "counts.jsonl")
    return {
        "counts": {
            "parquet": counts.select("start_ts", "count", "visits").rows(),
            "csv": polars.read_csv(folder / "counts.csv").select("start_ts", "count", "visits").rows(),
            "jsonl": lines.select("start_ts", "count", "visits").rows(),
        },
        "times": [one.isoformat() for one in counts["datetime"]],
        "types": {name: str(kind) for name, kind in counts.schema.items()},
        "members": {"parquet": per_day.select("start_ts", "len", "distinct").sort("start_ts").rows()},
        "windows": {"parquet": members.filter(polars.col("start_ts") >= last)["uid"].n_unique()},
        "everybody": sorted(members["uid"].unique()),
    }


def read_with_pyroaring(folder: Path) -> Found:
    import polars
    from pyroaring import BitMap

    table = polars.read_parquet(folder / "sets-parquet/sets.parquet")
    with (folder / "sets-csv/sets.csv").open(newline="") as file:
        rows = [(int(row["start_ts"]), base64.b64decode(row["set"])) for row in csv.DictReader(file)]
    lines = [json.loads(line) for line in (folder / "sets-jsonl/sets.jsonl").read_text().splitlines()]
    forms = {
        "parquet": table.select("start_ts", "set").rows(),
        "csv": rows,
        "jsonl": [(one["start_ts"], base64.b64decode(one["set"])) for one in lines],
    }
    sets = {form: [(at, BitMap.deserialize(one)) for at, one in pairs] for form, pairs in forms.items()}
    names = dict(polars.read_parquet(folder / "sets-parquet/uids.parquet").rows())
    return {
        "members": {form: [(at, len(one), len(one)) for at, one in pairs] for form, pairs in sets.items()},
        "windows": {
            form: len(BitMap.union(*(one for _, one in sorted(pairs)[-LAST_DAYS:]))) for form, pairs in sets.items()
        },
        "everybody": sorted(names[one] for one in BitMap.union(*(one for _, one in sets["parquet"]))),
        "by_day": {at: sorted(names[one] for one in members) for at, members in sets["parquet"]},
    }


def read_with_clickhouse(folder: Path) -> Found:
    from chdb.session import Session

    with Session() as session:

        def rows(question: str) -> list[list[Any]]:
            # Numbers as numbers, each row as an array.
            asked = f"{question} SETTINGS output_format_json_quote_64bit_integers = 0"
            return [json.loads(line) for line in str(session.query(asked, "JSONCompactEachRow")).splitlines()]

        binary = f"file('{folder}/sets-clickhouse/%s.rowbinary', RowBinaryWithNamesAndTypes)"
        session.query(
            "CREATE TABLE day_sets (start_ts Int64, visitors AggregateFunction(groupBitmap, UInt32)) "
            "ENGINE = AggregatingMergeTree ORDER BY start_ts"
        )
        # Twice: states of the same day are united when parts are merged, which changes nothing.
        for _ in range(2):
            session.query(f"INSERT INTO day_sets SELECT start_ts, `set` FROM {binary % 'sets'}")
        session.query("CREATE TABLE uids (ordinal UInt32, uid String) ENGINE = MergeTree ORDER BY ordinal")
        session.query(f"INSERT INTO uids SELECT * FROM {binary % 'uids'}")
        per_day = "SELECT start_ts, groupBitmapMerge(visitors) AS n, n FROM day_sets GROUP BY 1 ORDER BY 1"
        window = (
            "SELECT groupBitmapMerge(visitors) FROM day_sets WHERE start_ts IN "
            f"(SELECT DISTINCT start_ts FROM day_sets ORDER BY start_ts DESC LIMIT {LAST_DAYS})"
        )
        members = (
            f"(SELECT start_ts, ordinal FROM file('{folder}/members.parquet') AS m JOIN uids AS u USING uid ORDER BY 2)"
        )
        own = f"SELECT start_ts, hex(groupBitmapState(ordinal)) FROM {members} GROUP BY 1 ORDER BY 1"
        counts = {
            "parquet": f"file('{folder}/counts.parquet')",
            "csv": f"file('{folder}/counts.csv', CSVWithNames)",
            "jsonl": f"file('{folder}/counts.jsonl', JSONEachRow)",
            "rowbinary": binary % "sets",
        }
        return {
            "counts": {
                form: rows(f"SELECT start_ts, count, visits FROM {table} ORDER BY start_ts")
                for form, table in counts.items()
            },
            "members": {"rowbinary": rows(per_day)},
            "windows": {"rowbinary": rows(window)[0][0]},
            "everybody": sorted(uid for (uid,) in rows("SELECT uid FROM uids")),
            "types": dict(one[:2] for one in rows(f"DESCRIBE {binary % 'sets'}")),
            "days": [day for (day,) in rows(f"SELECT toDate(datetime) FROM {binary % 'sets'} ORDER BY start_ts")],
            "records": rows(
                "SELECT granularity, timezone, status, complete, revision, epoch, end_ts - start_ts "
                f"FROM {binary % 'sets'} ORDER BY start_ts"
            ),
            "states": rows(f"SELECT start_ts, hex(`set`) FROM {binary % 'sets'} ORDER BY start_ts"),
            "own_states": rows(own),
        }


def main() -> None:
    tools = {
        "duckdb": read_with_duckdb,
        "polars": read_with_polars,
        "pyroaring": read_with_pyroaring,
        "clickhouse": read_with_clickhouse,
    }
    print(json.dumps(tools[sys.argv[1]](Path(sys.argv[2]))))


if __name__ == "__main__":
    main()
