"""Waiting for a descriptor in asyncio's event loop."""

from __future__ import annotations

import asyncio

__all__ = ["wait_readable"]


async def wait_readable(number: int, timeout: float) -> bool:
    """Wait until the descriptor is readable; False after `timeout` seconds."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_reader(number, wake)
    try:
        await asyncio.wait_for(ready, timeout)
    except TimeoutError:
        return False
    finally:
        loop.remove_reader(number)
    return True
