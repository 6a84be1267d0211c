"""A position that no longer means what it meant is refused, with the flag that accepts it; never read on in silence."""

import pytest

from kafka.cluster import Cluster, until
from kafka.reading import assert_seamless, read_to_end, reading, values
from uniqdb.errors import KafkaUnreachable, OffsetsLost, OtherCluster, TopicMissing, TopicRecreated, UsageError
from uniqdb.stream.kafka_batch import Gap, GapReason
from uniqdb.stream.kafka_identity import TopicIdentity
from uniqdb.stream.kafka_settings import Accept, KafkaHooks, KafkaSettings, Start
from uniqdb.stream.kafka_source import KafkaSource
from uniqdb_cli.local_broker import BrokerOptions, LocalBroker, free_port, local_broker

TEN = [b"%d" % i for i in range(10)]


def test_lost_offsets_at_start(cluster: Cluster, topic: str) -> None:
    cluster.create(topic, partitions=2)
    cluster.write(topic, TEN, 0)
    cluster.write(topic, TEN, 1)
    cluster.delete_records(topic, 0, before=6)
    with pytest.raises(OffsetsLost) as caught, reading(cluster, topic, {0: 4, 1: 3}):
        pass
    lost = caught.value
    assert (lost.partition, lost.expected, lost.first, lost.end, lost.exit_code) == (0, 4, 6, 10, 65)
    assert f"topic {topic}, partition 0: offset 4 is to be read next, but Kafka has 6 to 10" in str(lost)
    assert "--accept-lost-offsets" in lost.hint

    with reading(cluster, topic, {0: 4, 1: 3}, accept=frozenset([Accept.LOST_OFFSETS])) as source:
        assert source.take_gaps() == [Gap(0, 4, 6, GapReason.LOST_OFFSETS)]
        found = read_to_end(source)
        assert source.take_gaps() == []
    assert (values(found, 0), values(found, 1)) == (TEN[6:], TEN[3:])


def test_the_first_kept_offset_is_not_lost(cluster: Cluster, topic: str) -> None:
    cluster.create(topic)
    cluster.write(topic, TEN)
    cluster.delete_records(topic, 0, before=6)
    with reading(cluster, topic, {0: 6}) as source:
        assert values(read_to_end(source)) == TEN[6:]
    with reading(cluster, topic, {0: 10}) as source:  # all was read, nothing new came
        assert read_to_end(source) == []
    with reading(cluster, topic) as source:  # never read before: begins with what there is
        assert source.positions == {0: 6}


def test_a_position_beyond_the_end_is_lost_too(cluster: Cluster, topic: str) -> None:
    cluster.create(topic)
    cluster.write(topic, TEN)
    with pytest.raises(OffsetsLost), reading(cluster, topic, {0: 11}):
        pass
    with reading(cluster, topic, {0: 11}, accept=frozenset([Accept.LOST_OFFSETS])) as source:
        assert source.take_gaps() == [Gap(0, 11, 10, GapReason.LOST_OFFSETS)]
        cluster.write(topic, [b"new"])
        assert values(read_to_end(source)) == [b"new"]


@pytest.mark.parametrize("accepts", [False, True])
def test_records_deleted_while_reading(cluster: Cluster, topic: str, accepts: bool) -> None:
    """Kafka says so with one message that has an error, and then stays silent for ever."""
    cluster.create(topic)
    cluster.write(topic, TEN)
    accept = frozenset([Accept.LOST_OFFSETS]) if accepts else frozenset()
    with reading(cluster, topic, accept=accept) as source:
        found = source.poll(5, 3)
        assert values(found) == TEN[:3]
        cluster.delete_records(topic, 0, before=8)
        source.rewind(source.positions)  # lets go of what was fetched before
        if not accepts:
            with pytest.raises(OffsetsLost) as caught:
                until(lambda: bool(source.poll(0.1, 100)))
            assert (caught.value.expected, caught.value.first) == (3, 8)
            return
        found = read_to_end(source)
        assert source.take_gaps() == [Gap(0, 3, 8, GapReason.LOST_OFFSETS)]
        assert values(found) == TEN[8:]
        assert assert_seamless(found, 8) == 10


def test_recreated_topic_at_start(cluster: Cluster, topic: str) -> None:
    """Longer than before: without the id its beginning would be skipped, and nobody would know."""
    cluster.create(topic)
    cluster.write(topic, TEN[:3])
    with reading(cluster, topic) as source:
        read_to_end(source)
        kept, known = source.positions, source.facts.identity
    cluster.recreate(topic)
    cluster.write(topic, TEN)
    with (
        pytest.raises(TopicRecreated, match="--accept-recreated-topic") as caught,
        reading(cluster, topic, kept, known=known),
    ):
        pass
    assert caught.value.exit_code == 65
    accept = frozenset([Accept.RECREATED_TOPIC])
    with reading(cluster, topic, kept, known=known, accept=accept) as source:
        assert source.take_gaps() == [Gap(0, 3, 0, GapReason.RECREATED_TOPIC)]
        assert source.facts.identity != known
        assert values(read_to_end(source)) == TEN


@pytest.mark.parametrize("grows_by", [0, 20])
def test_a_log_that_was_cut_back_while_reading(cluster: Cluster, topic: str, grows_by: int) -> None:
    """As an unclean election does it: other records stand where we have read, or the end lies before our position."""
    cluster.create(topic)
    for value in TEN:
        cluster.write(topic, [value])
    with reading(cluster, topic) as strict, reading(cluster, topic, accept=frozenset([Accept.LOST_OFFSETS])) as lenient:
        assert values(read_to_end(strict)) == values(read_to_end(lenient)) == TEN
        cluster.broker.stop()
        cluster.cut_back(topic, 0, records=5)
        cluster.broker.start()
        other = [b"other %d" % i for i in range(grows_by)]
        cluster.write(topic, other)
        with pytest.raises(OffsetsLost) as caught:
            until(lambda: strict.poll(0.1, 100) is None)
        assert (caught.value.expected, caught.value.first, caught.value.end) == (10, 0, 5)
        assert values(read_to_end(lenient)) == other
        assert lenient.take_gaps() == [Gap(0, 10, 5, GapReason.LOST_OFFSETS)]


def test_a_topic_never_loses_partitions(cluster: Cluster, topic: str) -> None:
    """So one that has fewer is another one, even where brokers are too old to give it an id."""
    cluster.create(topic, partitions=2)
    with pytest.raises(TopicRecreated, match="it had 3 partitions, now 2"), reading(cluster, topic, {0: 0, 2: 7}):
        pass
    with reading(cluster, topic, {0: 0, 2: 7}, accept=frozenset([Accept.RECREATED_TOPIC])) as source:
        assert source.positions == {0: 0, 1: 0}
        assert [gap.reason for gap in source.take_gaps()] == [GapReason.RECREATED_TOPIC] * 2


def test_recreated_topic_while_reading(cluster: Cluster, topic: str) -> None:
    cluster.create(topic)
    cluster.write(topic, TEN[:3])
    with reading(cluster, topic) as source:
        read_to_end(source)
        assert source.confirm()
        cluster.recreate(topic)
        cluster.write(topic, TEN)
        with pytest.raises(TopicRecreated):
            until(lambda: source.poll(0.1, 100) is None)
        with pytest.raises(TopicRecreated):
            source.confirm()


def test_other_cluster(cluster: Cluster, topic: str) -> None:
    cluster.create(topic)
    cluster.write(topic, TEN)
    known = TopicIdentity("some-other-cluster", "some-id")
    with (
        pytest.raises(OtherCluster, match=r"some-other-cluster.*--accept-other-cluster") as caught,
        reading(cluster, topic, {0: 5}, known=known),
    ):
        pass
    assert caught.value.exit_code == 65
    accept = frozenset([Accept.OTHER_CLUSTER])
    with reading(cluster, topic, {0: 5}, known=known, accept=accept, start=Start.LATEST) as source:
        assert source.take_gaps() == [Gap(0, 5, 10, GapReason.OTHER_CLUSTER)]
        assert source.positions == {0: 10}


def test_a_missing_topic_is_waited_for_and_never_created(cluster: Cluster, topic: str) -> None:
    said: list[str] = []
    with pytest.raises(TopicMissing, match=f"Kafka has no topic {topic}") as caught:
        KafkaSource(cluster.settings(start_timeout_s=1.0), topic, {}, hooks=KafkaHooks(on_log=said.append))
    assert caught.value.exit_code == 69
    assert said == [f"Kafka has no topic {topic}; trying again"]
    assert topic not in cluster.topics()


def test_a_topic_that_goes_missing_is_waited_for(cluster: Cluster, topic: str) -> None:
    cluster.create(topic)
    cluster.write(topic, [b"x"])
    said: list[str] = []
    with reading(cluster, topic, hooks=KafkaHooks(on_log=said.append)) as source:
        read_to_end(source)
        cluster.delete(topic)
        until(lambda: source.poll(0.1, 10) == [] and bool(said))
        assert topic not in cluster.topics()


@pytest.mark.parametrize(
    ("client", "words"),
    [
        ({}, "no Kafka broker is named"),
        ({"bootstrap.servers": " "}, "no Kafka broker is named"),
        ({"bootstrap.servers": "x", "enable.auto.commit": "true"}, "enable.auto.commit is not for the user"),
        ({"bootstrap.servers": "x", "auto.offset.reset": "latest"}, "auto.offset.reset is not for the user"),
        ({"bootstrap.servers": "x", "no.such.thing": "1"}, 'No such configuration property: "no.such.thing"'),
    ],
)
def test_settings_that_cannot_be(client: dict[str, str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        KafkaSource(KafkaSettings(client), "topic", {})


def test_secrets_are_not_shown() -> None:
    settings = KafkaSettings({"bootstrap.servers": "x", "sasl.password": "s3cret", "security.protocol": "nonsense"})
    assert "s3cret" not in repr(settings)
    assert settings.without_secrets("it says s3cret here") == "it says (hidden) here"
    with pytest.raises(UsageError, match="nonsense") as caught:
        KafkaSource(settings, "topic", {})
    assert "s3cret" not in str(caught.value)


def test_a_wrong_password_is_said_and_not_shown(broker: LocalBroker) -> None:  # noqa: ARG001 - without one, none at all
    port, controller = free_port(), f"127.0.0.1:{free_port()}"
    login = (
        'org.apache.kafka.common.security.plain.PlainLoginModule required username="u" password="good" user_u="good";'
    )
    secured = {
        "listeners": f"SASL_PLAINTEXT://127.0.0.1:{port},CONTROLLER://{controller}",
        "advertised.listeners": f"SASL_PLAINTEXT://127.0.0.1:{port}",
        "controller.quorum.voters": f"1@{controller}",
        "inter.broker.listener.name": "SASL_PLAINTEXT",
        "listener.security.protocol.map": "SASL_PLAINTEXT:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT",
        "listener.name.sasl_plaintext.plain.sasl.jaas.config": login,
        "sasl.enabled.mechanisms": "PLAIN",
        "sasl.mechanism.inter.broker.protocol": "PLAIN",
    }
    client = {"bootstrap.servers": f"127.0.0.1:{port}", "security.protocol": "SASL_PLAINTEXT"}
    client |= {"sasl.mechanism": "PLAIN", "sasl.username": "u"}
    with local_broker(BrokerOptions(port=port, properties=secured)):
        with pytest.raises(KafkaUnreachable, match="Invalid username or password") as caught:
            KafkaSource(KafkaSettings({**client, "sasl.password": "wr0ng"}, start_timeout_s=0.1), "topic", {})
        assert caught.value.hint == "check user, password, certificates and rights"
        assert "wr0ng" not in str(caught.value)
        with pytest.raises(TopicMissing):  # the right one gets an answer
            KafkaSource(KafkaSettings({**client, "sasl.password": "good"}, start_timeout_s=0.1), "topic", {})
