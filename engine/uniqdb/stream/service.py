"""The long-running service: from a Kafka topic into the store, and every count back to Kafka.

One thread, one loop: poll, judge, commit when it is time, publish what the commit made ready. A commit holds visits,
refused records, the next offsets, the clocks, what is to be published and what has been. So a process that dies at any
instant is started again and goes on; at worst records that were published are published once more, with the same keys
and revisions.
"""

import datetime
import gc
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import msgspec
from msgspec import structs

from uniqdb.engine import Engine
from uniqdb.errors import KafkaUnreachable, PublishRefused, TopicMissing
from uniqdb.limits import COMMIT_VISITS_MAX
from uniqdb.meta import GapRow, KafkaPlace, SourceRow
from uniqdb.request_handlers import PUBLISH_TRAILING, Trailing, understood
from uniqdb.source_clocks import reset_clock
from uniqdb.stream.decoding import Decoded, Decoding
from uniqdb.stream.emission import Urgency
from uniqdb.stream.hourly_sweep import HourlySweep
from uniqdb.stream.kafka_identity import TopicIdentity
from uniqdb.stream.kafka_settings import KafkaHooks, KafkaSettings, RareLog
from uniqdb.stream.kafka_source import KafkaSource
from uniqdb.stream.live_runs import LiveRuns
from uniqdb.stream.partition import Moment, Partition
from uniqdb.stream.publisher import Publisher
from uniqdb.stream.publishing import EVERYTHING, RETRY_PAUSE_S, Publishing, Window
from uniqdb.stream.room import PatientCommits
from uniqdb.stream.service_options import ServiceOptions, ServiceSummary
from uniqdb.stream.stored_places import assert_same_partitions, stored_places
from uniqdb.sweeping import SWEEP
from uniqdb.writer import Commit, nothing

T = TypeVar("T")
POLL_S = 0.1
POLL_RECORDS = 10_000
LIVE_INTERVAL_S = 0.5
"""How long read records wait for their commit; a part of the 6.5 s in which a minute's count is published."""
LOOK_INTERVAL_S = 1.0
"""How often it is asked where the topic ends, and which windows are due."""
REPORT_INTERVAL_S = 5.0
HISTORY_INTERVAL_S = 2.0
"""While history is read, counts are published at most so often: each transaction has its price."""
HISTORY_S = 86_400
"""A store whose clock is more than this behind the wall clock, before the end of its topic, reads history."""
FLUSH_S = 8.0
"""How long a service that was asked to stop goes on publishing."""


class StreamService:
    """One run over one topic. Make it, then `run`."""

    def __init__(
        self, engine: Engine, settings: KafkaSettings, options: ServiceOptions, hooks: KafkaHooks | None = None
    ) -> None:
        """Raises as `KafkaSource` and `Publisher` do, and InputRefused for settings other than the stored ones."""
        self._engine, self._options, self._hooks = engine, options, hooks or KafkaHooks()
        self._observer, self._log, self._shard = options.observer, RareLog(self._hooks.on_log), settings.shard
        self.summary = ServiceSummary()
        self._started_at_s = self._committed_at_s = time.monotonic()
        stored = stored_places(engine, options, settings.shard)
        give_up_at_s = None if stored else time.monotonic() + settings.start_timeout_s
        topics = options.rules.topics.names()
        self._publisher = Publisher(settings, engine.store_uuid, self._hooks, waits=False)
        self._patiently(lambda: self._publisher.assert_ours(topics, options.take_over), give_up_at_s)
        self._patiently(lambda: self._publisher.ensure_topics(topics), give_up_at_s)
        positions = {place.partition: place.next_offset for place in stored}
        known = TopicIdentity(stored[0].cluster_id, stored[0].topic_id) if stored else None
        self._source = KafkaSource(settings, options.input_topic, positions, known, self._hooks)
        assert_same_partitions(options.input_topic, stored, self._source.facts.partition_count)
        self._publishing = Publishing(engine, self._publisher, options.rules, self._hooks.on_log)
        self._publishing.observer = self._observer
        self._decoding = Decoding(options.fields, self._hooks.on_log)
        self._partitions: dict[int, Partition] = {}
        self._looked_at_s = self._windows_looked_at_s = self._reported_at_s = -LOOK_INTERVAL_S
        self._confirmed_at_s = self._published_at_s = -LOOK_INTERVAL_S
        self._tried_minute: int | None = None
        self._caught_up: dict[int, bool] = {}
        self._was_caught_up = False
        with engine.snapshot() as snapshot:
            self._state, self._dictionary = snapshot.answers.state, snapshot.answers.facts.dictionary
        self._live = LiveRuns(engine, serve_requests=True, more_handlers={PUBLISH_TRAILING: self._publish_trailing})
        self._live.enter(self)
        self._sweep = HourlySweep(engine, options.wall_clock, self._hooks.on_log)
        self._commits = PatientCommits(engine, self._hooks, self._make_room)
        self._open_gaps = {gap.source: gap for gap in self._state.gaps if gap.to_s is None}
        self._open(self._source.positions)
        self._vanished = self._end_vanished(stored)

    # ------------------------------------------------------------ the run
    def run(self) -> ServiceSummary:
        """Read and publish until it is asked to stop or, if so wanted, caught up. Everything read is then committed."""
        ends = self._patiently(self._source.end_offsets) if self._options.until_caught_up else None
        self._commit(is_publishing=True)
        while not self._hooks.should_stop():
            self._turn()
            self._live.serve()
            self._sweep.turn(may_begin=not self._reads_history())
            if ends is not None and all(self._position(one) >= end for one, end in ends.items()):
                self._finish()
                break
        else:
            self._stop()
        self.summary.elapsed_s = time.monotonic() - self._started_at_s
        return self.summary

    def close(self) -> None:
        """Leave Kafka."""
        self._decoding.close()
        self._source.close()
        self._publisher.close()

    def _turn(self) -> None:
        collecting = gc.isenabled()
        gc.disable()  # a batch makes ten thousands of objects and no cycles
        try:
            self._read()
        finally:
            if collecting:
                gc.enable()
        now = self._now()
        self._look_where_it_ends(now)
        for number, one in self._partitions.items():
            one.tick(now, self._options.idle_timeout_s, caught_up=self._caught_up.get(number, False))
        self._observer.turned(now, self.summary.records)
        if self._is_due(now):
            self._commit(windows=self._due_windows(now))
            is_time = not self._reads_history() or now.monotonic_s - self._published_at_s >= HISTORY_INTERVAL_S
            if is_time and self._publisher.has_begun():
                self._published_at_s = now.monotonic_s
                self._publishing.turn(self._urgency())
                self.summary.published = self._publishing.published

    def _read(self) -> None:
        batches = self._source.poll(POLL_S, POLL_RECORDS)
        if added := self._source.new_partitions():  # their first records may be among these
            self._hooks.on_log(f"{self._options.input_topic} has new partitions: {', '.join(map(str, added))}")
            self._open(added)
        self._take(self._decoding.add(batches))

    def _take(self, decoded: list[Decoded]) -> None:
        for one in decoded:
            self._partitions[one.batch.partition].take(one.batch, one.visits, self._now())
            self.summary.records += len(one.batch.values)

    def _position(self, number: int) -> int:
        """How far the records of a partition were taken; some may still be on their way from the source."""
        return self._partitions[number].place.next_offset if number in self._partitions else 0

    def _finish(self) -> None:
        """All that the topic held at the start was read: count it all, work out and publish it all."""
        now = self._now()
        for one in self._partitions.values():
            one.end()
            one.tick(now, self._options.idle_timeout_s, caught_up=True)
        self._commit()
        while windows := self._publishing.windows(everything=True):
            self._commit(windows=windows)
        self._publishing.everything(EVERYTHING, self._commit, until_s=None)
        self.summary.published = self._publishing.published

    def _stop(self) -> None:
        """Asked to stop: commit, and publish what only waited for its turn."""
        self.settle()
        urgency = Urgency(at_once=True, finals_only=self._reads_history())
        self._publishing.everything(urgency, self._commit, time.monotonic() + FLUSH_S)
        self.summary.published = self._publishing.published

    # ------------------------------------------------------------ requests
    def settle(self) -> None:
        """Commit all that was read."""
        self._take(self._decoding.rest())
        self._commit()

    def _make_room(self) -> None:
        """While a commit waits for room: sweeping needs little of it, and makes some."""
        self._observer.waits_for_room(self._now(), self.summary.records)
        self._sweep.turn()
        self._live.serve_only(SWEEP)

    def take_over(self) -> None:
        """After a request: go on from what the store has of the partitions now."""
        with self._engine.snapshot() as snapshot:
            self._state = snapshot.answers.state
        self._open(self._source.positions)

    def _publish_trailing(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """The windows of a day, and all that are due, published before it is answered."""
        wanted = understood(arguments, Trailing).as_of
        published = 0
        while windows := self._publishing.windows(everything=True):
            published += len(windows)
            self._commit(windows=windows)
        day = None if wanted is None else datetime.date.fromisoformat(wanted)
        windows = self._publishing.trailing(day)
        self._commit(windows=windows)
        urgency = Urgency(finals_only=self._reads_history())
        self._publishing.everything(urgency, self._commit, time.monotonic() + FLUSH_S)
        return {"published": published + len(windows)}

    # ------------------------------------------------------------ the beginning
    def _end_vanished(self, stored: list[KafkaPlace]) -> dict[int, SourceRow]:
        """End the partitions that the topic had before it was made anew with fewer; their last rows."""
        numbers = [place.partition for place in stored if place.partition not in self._partitions]
        return {
            number: reset_clock(self._engine, f"{self._options.input_topic}/{number}", end=True) for number in numbers
        }

    def _open(self, positions: Mapping[int, int]) -> None:
        identity, topic = self._source.facts.identity, self._options.input_topic
        partition_count = self._source.facts.partition_count
        how = self._options.fields, self._options.limits, self._engine.allowed_lateness_s
        with self._engine.snapshot() as snapshot:
            for number, next_offset in positions.items():
                place = KafkaPlace(
                    topic=topic,
                    partition=number,
                    next_offset=next_offset,
                    cluster_id=identity.cluster_id,
                    topic_id=identity.topic_id,
                    shard=str(self._shard or ""),
                    topic_partitions=partition_count if self._shard else 0,
                )
                self._partitions[number] = Partition.open(snapshot.answers.view, place, how, self._now())

    def _patiently(self, ask: Callable[[], T], give_up_at_s: float | None = None) -> T:
        """The answer, however long it takes, unless it is asked to stop or time (monotonic) is up."""
        while True:
            try:
                return ask()
            except (TopicMissing, PublishRefused):
                raise
            except KafkaUnreachable as error:
                is_late = give_up_at_s is not None and time.monotonic() > give_up_at_s
                if is_late or self._hooks.should_stop():
                    raise
                self._log.say("patience", f"{error.message}; trying again")
                time.sleep(RETRY_PAUSE_S)

    # ------------------------------------------------------------ time
    def _now(self) -> Moment:
        return Moment(int(self._options.wall_clock()), time.monotonic())

    def _look_where_it_ends(self, now: Moment) -> None:
        """Now and then: which partitions are read to their ends. Without an answer none is taken to be."""
        if now.monotonic_s - self._looked_at_s < LOOK_INTERVAL_S:
            return
        self._looked_at_s = now.monotonic_s
        try:
            ends = self._source.end_offsets(LOOK_INTERVAL_S)
        except KafkaUnreachable:
            self._caught_up = {}
            self._observer.looked(None, self._partitions, history=self._reads_history())
            return
        self._caught_up = {one: self._position(one) >= end for one, end in ends.items()}
        self._observer.looked(ends, self._partitions, history=self._reads_history())

    def _reads_history(self) -> bool:
        clock_s = self._state.clock_s
        is_behind = clock_s is not None and clock_s < self._options.wall_clock() - HISTORY_S
        return is_behind and not (self._caught_up and all(self._caught_up.values()))

    def _urgency(self) -> Urgency:
        """When the end of the topic is reached, what was held back until then is sent."""
        caught_up = bool(self._caught_up) and all(self._caught_up.values())
        has_arrived = caught_up and not self._was_caught_up
        self._was_caught_up = caught_up
        if has_arrived:
            self._publishing.begin_anew()
        return Urgency(at_once=has_arrived, finals_only=self._reads_history())

    def _left_out(self) -> set[int]:
        """Idle partitions, for which nothing waits; if all are, those that ever had a visit stay where they were.

        One that is empty has nothing to wait for; a run that ends when it has caught up knows that at once.
        """
        at_once = self._options.until_caught_up
        empty = {
            number
            for number, one in self._partitions.items()
            if one.place.last_arrival_s is None and (one.place.idle or (at_once and one.caught_up))
        }
        idle = {number for number, one in self._partitions.items() if one.place.idle} | empty
        return idle if len(idle) < len(self._partitions) else empty

    def _closes_soon(self) -> bool:
        """Whether a commit may close a minute: another source can keep it open, so each is tried once."""
        minute = self._reached_minute()
        closed_s = self._state.closed_through_s
        return minute is not None and minute != self._tried_minute and (closed_s is None or minute > closed_s // 60)

    def _reached_minute(self) -> int | None:
        """The minute up to which the partitions would close; None while one has no clock."""
        left_out = self._left_out()
        clocks_s = [one.place.closing_clock_s for number, one in self._partitions.items() if number not in left_out]
        known_s = [clock_s for clock_s in clocks_s if clock_s is not None]
        if not known_s or len(known_s) < len(clocks_s):
            return None
        return (min(known_s) - self._engine.allowed_lateness_s) // 60

    # ------------------------------------------------------------ commits
    def _due_windows(self, now: Moment) -> list[Window]:
        """Now and then: trailing windows that are due. While history is read they wait: it may change them again."""
        if now.monotonic_s - self._windows_looked_at_s < LOOK_INTERVAL_S or self._reads_history():
            return []
        self._windows_looked_at_s = now.monotonic_s
        return self._publishing.windows()

    def _is_due(self, now: Moment) -> bool:
        enough = min(self._options.commit_visits * self._dictionary.commit_factor, COMMIT_VISITS_MAX)
        if sum(one.waiting for one in self._partitions.values()) >= enough:
            return True
        if now.monotonic_s - self._committed_at_s < LIVE_INTERVAL_S:
            return False
        if self._publishing.acknowledged or self._has_moved() or self._closes_soon():
            return True
        # What was held back, or could not be published, is looked at again.
        return now.monotonic_s - self._committed_at_s >= LOOK_INTERVAL_S

    def _has_moved(self) -> bool:
        return any(one.has_moved for one in self._partitions.values())

    def _commit(self, *, is_publishing: bool = False, windows: list[Window] | None = None) -> None:
        now = self._now()
        if self._has_moved() and now.monotonic_s - self._confirmed_at_s >= LOOK_INTERVAL_S:
            self._source.confirm(LOOK_INTERVAL_S)  # it raises if the records may be those of another topic
            self._confirmed_at_s = now.monotonic_s
        left_out = self._left_out()
        acknowledged = self._publishing.acknowledged
        commit = structs.replace(nothing(), published=acknowledged, windows=windows or [], is_publishing=is_publishing)
        rows: dict[int, SourceRow] = {}
        for number, one in self._partitions.items():
            is_left_out = number in left_out
            if one.has_moved or is_publishing:
                taken, refused, rows[number] = one.cut(is_left_out=is_left_out)
                commit = commit.then(taken, refused)
                self.summary.visits += len(taken.uids)
                self.summary.refused += len(refused)
                commit.sources[one.key] = rows[number]
            else:
                rows[number] = one.row_now(is_left_out=is_left_out)
                if rows[number] != one.row:
                    commit.sources[one.key] = rows[number]
        commit.gaps.extend(self._gaps(rows))
        self._committed_at_s = now.monotonic_s
        if self._is_empty(commit) and not is_publishing:
            return
        self._tried_minute = self._reached_minute()
        begun_at_s = time.monotonic()
        before, self._state = self._state, self._commits.write(commit)
        self._observer.committed(before, self._state, time.monotonic() - begun_at_s)
        self._decoding.hash_seed = self._dictionary.wanted_seed
        for number, row in rows.items():
            self._partitions[number].committed(row)
        self._publishing.committed(commit)
        self.summary.commits += 1
        self._report(now)

    def _is_empty(self, commit: Commit) -> bool:
        closes = self._closes_soon() and bool(commit.sources)
        return not (commit.advances or commit.published or commit.windows or commit.gaps or closes)

    def _gaps(self, rows: dict[int, SourceRow]) -> list[GapRow]:
        """Gaps that the source reports, and where open ones end: behind the first visits, and the clock, after them."""
        found: list[GapRow] = []
        for gap in self._source.take_gaps():
            one = self._partitions.get(gap.partition)
            name = f"{self._options.input_topic}/{gap.partition}"
            source_row = self._vanished.get(gap.partition) if one is None else one.row
            from_s = (source_row.clock_s if source_row is not None else None) or 0
            row = GapRow(name, gap.expected, gap.resumed_at, str(gap.reason), from_s)
            if one is None:  # nothing will tell where it ends: up to now
                row = msgspec.structs.replace(row, to_s=max(int(self._options.wall_clock()), from_s))
            else:
                self._open_gaps[name] = row
            self._hooks.on_log(f"{name}: offsets {gap.expected:,} to {gap.resumed_at:,} are given up: {gap.reason}")
            found.append(row)
        for number, row_now in rows.items():
            open_gap = self._open_gaps.get(row_now.name)
            has_read_on = row_now.visits > self._partitions[number].row.visits
            if open_gap is not None and has_read_on and row_now.clock_s is not None and open_gap not in found:
                to_s = max(row_now.clock_s, (self._partitions[number].newest_s or 0) + 1, open_gap.from_s)
                found.append(msgspec.structs.replace(open_gap, to_s=to_s))
                del self._open_gaps[row_now.name]
        return found

    def _report(self, now: Moment) -> None:
        if now.monotonic_s - self._reported_at_s >= REPORT_INTERVAL_S:
            self._reported_at_s = now.monotonic_s
            self._source.report_offsets({number: one.place.next_offset for number, one in self._partitions.items()})
