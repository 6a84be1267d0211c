import pytest

from uniqdb.stream import kafka_settings
from uniqdb.stream.kafka_settings import KafkaSettings, RareLog

PLAIN = KafkaSettings({"bootstrap.servers": "x:1"})


def test_what_exactness_rests_on_is_always_set() -> None:
    consumer = KafkaSettings({"bootstrap.servers": "x:1", "fetch.queue.backoff.ms": 5, "client.id": "me"}).for_consumer(
        "g"
    )
    assert (consumer["fetch.queue.backoff.ms"], consumer["client.id"], consumer["group.id"]) == (5, "me", "g")
    assert consumer["enable.auto.commit"] is consumer["enable.auto.offset.store"] is False
    assert (consumer["auto.offset.reset"], consumer["isolation.level"]) == ("error", "read_committed")
    assert consumer["check.crcs"] is True
    producer = PLAIN.for_producer("store")
    assert (producer["transactional.id"], producer["enable.idempotence"], producer["acks"]) == ("store", True, "all")
    assert PLAIN.for_consumer("g")["fetch.queue.backoff.ms"] == 10
    assert "transactional.id" not in PLAIN.for_admin()


def test_the_same_trouble_is_told_rarely(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka_settings, "LOG_INTERVAL_S", 1e6)
    said: list[str] = []
    log = RareLog(said.append)
    for number in range(100):
        log.say("down", f"down {number}")
    log.say("other", "other")
    assert said == ["down 0", "other"]
    monkeypatch.setattr(kafka_settings, "LOG_INTERVAL_S", 0)
    log.say("down", "down again")
    log.say("down", "and again")
    assert said[2:] == ["down again (and 99 times before)", "and again"]
