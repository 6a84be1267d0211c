from pathlib import Path
import pytest
from kafka.cluster import Cluster
from kafka.serving import Served, line
from kafka.scraping import scraped
T = 1_468_244_340
@pytest.fixture
def served(cluster: Cluster, topic: str, tmp_path: Path) -> Served:
    return Served(cluster, topic, tmp_path)

def test_try(served):
    served.cluster.create(served.topic, 2)
    served.cluster.write(served.topic, [line(T+n, f"u{n%50}") for n in range(1000)]+[b"{", None])
    with scraped(served) as s:
        s.until("uniqdb_records_total", 1000, "accepted")
        s.until("uniqdb_outbox_rows", 1)if 0 else None
        import time; time.sleep(3)
        print(s.get("/metrics")[1]); print(s.get("/healthz"), s.get("/readyz"), s.get("/x"))
        s.child.terminate(); print(s.child.communicate(timeout=20))
