"""From the store's outbox to Kafka: worked out, chosen, sent, and remembered until a commit takes it out."""

import datetime
import time
from collections.abc import Callable

from msgspec import structs

from uniqdb.engine import Engine
from uniqdb.errors import CommitFailed, KafkaUnreachable, WindowNotKept
from uniqdb.outbox import TRAILING_DAYS, WindowKey, WindowRow, read_due, read_window
from uniqdb.stream.emission import WINDOW_INTERVAL_S, Emission, EmissionRules, Urgency, work_out
from uniqdb.stream.kafka_settings import RareLog
from uniqdb.stream.observer import SILENT, Observer
from uniqdb.stream.publisher import Publisher
from uniqdb.writer import Commit, nothing

RETRY_PAUSE_S = 1.0
WINDOWS_TURN_S = 0.2
"""So long windows are worked out before something else has its turn."""
Window = tuple[WindowKey, WindowRow, bytes]
EVERYTHING = Urgency(everything=True)


class Publishing:
    """The publishing side of a writer. Used by one thread."""

    def __init__(
        self,
        engine: Engine,
        publisher: Publisher,
        rules: EmissionRules,
        log: Callable[[str], None],
        *,
        only_windows: bool = False,
    ) -> None:
        self._engine, self._publisher, self._log = engine, publisher, RareLog(log)
        self.observer: Observer = SILENT
        self._emission = Emission(rules, only_windows=only_windows)
        self._worked_out_at_s: dict[WindowKey, float] = {}
        self._retry_at_s = 0.0
        self.acknowledged: dict[bytes, int] = {}
        """Published, but still in the outbox: for the next commit."""
        self.published = 0

    def begin_anew(self) -> None:
        """Look at the whole outbox again."""
        self._emission.begin_anew()

    def windows(self, *, everything: bool = False) -> list[Window]:
        """Trailing windows that are due, worked out, as many as there is time for; to be written by the next commit.

        ``everything``: also those that were worked out within the hour. Those whose days are no longer kept keep the
        record that they have, if any, and are due no longer.
        """
        found: list[Window] = []
        not_kept: list[WindowKey] = []
        end_at_s = time.monotonic() + WINDOWS_TURN_S
        with self._engine.snapshot() as snapshot:
            for key in list(read_due(snapshot.answers.view)):
                now_s = time.monotonic()
                if now_s >= end_at_s and found:
                    break
                if not everything and now_s - self._worked_out_at_s.get(key, -WINDOW_INTERVAL_S) < WINDOW_INTERVAL_S:
                    continue
                try:
                    found.append(work_out(snapshot, key))
                except WindowNotKept:
                    not_kept.append(key)
                self._worked_out_at_s[key] = now_s
        if not_kept:
            try:
                self._engine.write(structs.replace(nothing(), not_due=not_kept))
            except CommitFailed:  # there is no room for it now; they are looked at again
                self._log.say(
                    "not kept",
                    f"{len(not_kept):,} trailing windows cannot be worked out: their days are no longer kept",
                )
        if len(self._worked_out_at_s) > 10_000:
            now_s = time.monotonic()
            self._worked_out_at_s = {
                key: at_s for key, at_s in self._worked_out_at_s.items() if now_s - at_s < WINDOW_INTERVAL_S
            }
        return found

    def trailing(self, as_of: datetime.date | None) -> list[Window]:
        """The trailing windows that end with a day, worked out, to be written by the next commit.

        By default the day of the store's clock. A day that is not over has provisional ones; of one that is over only
        those that were never published, for the others are final or due. Left out are those whose days are not kept.
        Raises NotFound for a store without visits, WindowNotKept if no window of the day can be worked out.
        """
        found: list[Window] = []
        gone: WindowNotKept | None = None
        with self._engine.snapshot() as snapshot:
            answers = snapshot.answers
            day = as_of or answers.zone.local_date(answers.as_of_default_s())
            is_open = not answers.is_closed(answers.zone.day_end(day))
            for days in TRAILING_DAYS:
                key = WindowKey(days, day.toordinal())
                if is_open or read_window(answers.view, key) is None:
                    try:
                        found.append(work_out(snapshot, key))
                    except WindowNotKept as error:
                        gone = error
        if gone is not None and not found:
            raise gone
        return found

    def turn(self, urgency: Urgency) -> bool:
        """Send a part of what is ready; True if something was sent.

        Nothing is chosen before what was sent is out of the outbox. A broker that is away is told, and asked again a
        second later. Raises PublishRefused, PublisherFenced.
        """
        if self.acknowledged or time.monotonic() < self._retry_at_s:
            return False
        with self._engine.snapshot() as snapshot:
            chosen = self._emission.choose(snapshot, urgency, time.monotonic())
        if not chosen.acknowledged:
            return False
        begun_at_s = time.monotonic()
        try:
            self._publisher.publish(chosen.records)
        except KafkaUnreachable as error:
            self._log.say("publishing", f"{error.message}; publishing again")
            self.observer.publishing_failed()
            self._retry_at_s = time.monotonic() + RETRY_PAUSE_S
            self._emission.begin_anew()
            return False
        self._emission.sent(chosen, time.monotonic())
        self.observer.published(len(chosen.records), time.monotonic() - begun_at_s)
        self.acknowledged = chosen.acknowledged
        self.published += len(chosen.records)
        return True

    def everything(self, urgency: Urgency, commit: Callable[[], None], until_s: float | None) -> bool:
        """Send all that the urgency lets through, from the start of the outbox; False if time was up (monotonic).

        ``commit`` writes a commit with `acknowledged`.
        """
        self._emission.begin_anew()
        while until_s is None or time.monotonic() < until_s:
            if self.turn(urgency):
                commit()
            elif time.monotonic() < self._retry_at_s:
                time.sleep(max(self._retry_at_s - time.monotonic(), 0.0))
                continue
            if self._emission.is_at_start:
                return True
        return False

    def committed(self, commit: Commit) -> None:
        """The commit, which had `acknowledged`, is in the store."""
        if commit.published:
            self.acknowledged = {}
