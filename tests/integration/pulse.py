"""Is the pipeline alive? Told by deliveries of events that were committed after a given moment."""

import threading
import time


class Pulse:
    """Give on_event to a Subscriber."""

    def __init__(self):
        self._changed = threading.Condition()
        self._newest_us = 0

    def on_event(self, _now, _ids, event):
        with self._changed:
            self._newest_us = max(self._newest_us, event.source_timestamp_us)
            self._changed.notify_all()

    def wait_after(self, wall_us, seconds):
        """Seconds until an event committed after wall_us has arrived; None when none does."""
        start = time.monotonic()
        with self._changed:
            if self._changed.wait_for(lambda: self._newest_us > wall_us, seconds):
                return time.monotonic() - start
        return None
