import asyncio
from dataclasses import dataclass, field
@dataclass(order=True)
class Job:
    priority: int
    name: str = field(compare=False)
    log: list = field(default_factory=list, compare=False, repr=False)
async def main():
    q = asyncio.PriorityQueue()
    for p, n in [(3, "c"), (1, "a"), (2, "b")]:
        await q.put(Job(p, n))
    while not q.empty():
        job = await q.get()
        job.log.append("run")
        print(job, job.log)
    print(Job(1, "x") == Job(1, "y"))
asyncio.run(main())
