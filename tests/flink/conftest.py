"""Apache Flink beside the Kafka broker of the other tests. Where it is not to be had these tests are skipped.

The last line of the run says so; where CI is set, that is a failure.
"""

import os
from pathlib import Path
from typing import Any

import pytest

from kafka.conftest import broker, cluster, pytest_pycollect_makemodule, topic  # noqa: F401 - fixtures and a hook
from uniqdb.errors import NotFetched


@pytest.fixture(scope="session")
def flink_jars() -> Path:
    """Fetched before a broker is asked for, so that what is missing is named."""
    from flink_local import flink_folder  # noqa: PLC0415 - it needs the Kafka client, which may be lacking

    try:
        return flink_folder()
    except NotFetched as error:
        if os.environ.get("CI"):
            pytest.fail(f"no Flink: {error}", pytrace=False)
        pytest.skip(f"no Flink: {error}")


@pytest.fixture
def counting(
    flink_jars: Path,  # noqa: ARG001 - the job needs them
    request: pytest.FixtureRequest,
    tmp_path: Path,
) -> Any:
    """One topic of visits, and both engines to count it."""
    from flink.counting import Counting  # noqa: PLC0415 - as above

    return Counting(request.getfixturevalue("cluster"), request.getfixturevalue("topic"), tmp_path)
