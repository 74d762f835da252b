"""Changes of a tenant's jobs as one stream: what a list needs to stay true."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator

from service.api.streams import Viewer, sent_to
from service.jobs.model import Job
from service.jobs.store import JobFilters, Store

#: seconds between two looks at the store while somebody looks at the list
LOOK = 0.3
#: a change that was stored a little late, by another process's clock, is still seen
SLACK = 2.0
#: jobs whose changes are told at a time
MOST = 1000


class JobChanges:
    """Streams of changes, one look at the store for all viewers of a tenant."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._viewers: dict[str, set[Viewer]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def follow(self, tenant: str) -> AsyncIterator[bytes]:
        """A tenant's changed jobs as Server-Sent Events named ``job``, from now on."""
        viewer: Viewer = asyncio.Queue()
        viewers = self._viewers.setdefault(tenant, set())
        if not viewers:
            task = asyncio.create_task(self._look(tenant, viewers))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        viewers.add(viewer)
        try:
            yield b"retry: 2000\n\n"
            async for some in sent_to(viewer):
                yield some
        finally:
            viewers.discard(viewer)

    async def _look(self, tenant: str, viewers: set[Viewer]) -> None:
        await asyncio.sleep(0)  # until the first viewer is there
        after, seen, begun = time.time(), dict[str, float](), time.time()
        while viewers:
            filters = JobFilters(updated_after=after - SLACK)
            page = await asyncio.to_thread(
                self.store.list_jobs, tenant, filters, "-updated_at", None, MOST
            )
            fresh = [job for job in page.items if seen.get(job.id) != job.updated_at]
            seen = {job.id: job.updated_at for job in page.items}
            for job in fresh:
                data = _event(job, begun)
                for viewer in viewers:
                    viewer.put_nowait(data)
            after = max([after, *(job.updated_at for job in page.items)])
            await asyncio.sleep(LOOK)

    def close(self) -> None:
        """End every stream: the service stops."""
        for viewers in self._viewers.values():
            for viewer in viewers:
                viewer.put_nowait(None)
        for task in list(self._tasks):
            task.cancel()


def _event(job: Job, begun: float) -> bytes:
    about = {
        "id": job.id,
        "name": job.name,
        "state": job.state,
        "stage": job.stage,
        "summary": job.summary,
        "new": job.created_at >= begun,
    }
    return b"event: job\ndata: %s\n\n" % json.dumps(about, default=str).encode()
