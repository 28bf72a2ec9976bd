"""How soon models have begun to answer lately."""

from __future__ import annotations

from collections import deque

__all__ = ["Latencies"]

#: Answers that are remembered of each model.
_REMEMBERED = 200

#: Models that are remembered. Callers may name any model, so there has to be an end.
_MODELS = 1_024


class Latencies:
    """Times to the first output, of the last answers of each model, in this process.

    Whole answers, which are their own first output, are remembered apart from streams: they take as long as they are.
    """

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str, bool], deque[float]] = {}

    def note(self, provider: str, model: str, seconds: float, *, whole: bool = False) -> None:
        """Remember when a model's first output came."""
        key = (provider, model, whole)
        seen = self._seen.pop(key, None) or deque(maxlen=_REMEMBERED)
        seen.append(seconds)
        self._seen[key] = seen
        if len(self._seen) > _MODELS:
            del self._seen[next(iter(self._seen))]

    def samples(self, provider: str, model: str, *, whole: bool = False) -> int:
        """Return how many answers are remembered."""
        return len(self._seen.get((provider, model, whole), ()))

    def median(self, provider: str, model: str) -> tuple[float, int] | None:
        """Return the median in seconds and the number of answers: of streams, else of whole answers; None: unknown."""
        for whole in (False, True):
            median = self.percentile(provider, model, 50.0, whole=whole)
            if median is not None:
                return median, self.samples(provider, model, whole=whole)
        return None

    def percentile(self, provider: str, model: str, percent: float, *, whole: bool = False) -> float | None:
        """Return the seconds within which so many percent of the answers began (nearest rank); None: none is known."""
        seen = sorted(self._seen.get((provider, model, whole), ()))
        if not seen:
            return None
        rank = max(1, -(-len(seen) * percent // 100))
        return seen[int(rank) - 1]
