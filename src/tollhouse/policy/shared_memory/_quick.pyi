from mmap import mmap

LAYOUT_VERSION: int

def place(
    counters: mmap,
    berth: mmap,
    lock: int,
    plan: bytes,
    place: int,
    now_ns: int,
    began_at_us: int,
    hold_nano: int,
    tokens: int,
    claim_id: str,
    note: bytes,
    /,
) -> tuple[int, ...] | None: ...
def settle(
    counters: mmap, berth: mmap, lock: int, now_ns: int, endings: list[tuple[int, int, int | None, bool]], /
) -> list[tuple[tuple[int, int, int, int], ...]] | None: ...
