"""HyperQueue's own local cluster through its Python package: `python hq.py <folder of the package> <tasks> <slots>`."""

import json
import sys
import time

sys.path.insert(0, sys.argv[1])

from hyperqueue import Job, LocalCluster
from hyperqueue.cluster import WorkerConfig


def main() -> None:
    count, slots = int(sys.argv[2]), int(sys.argv[3])
    with LocalCluster() as cluster:
        cluster.start_worker(WorkerConfig(cores=slots))
        client = cluster.client()
        run(client, 1)
        single = sorted(run(client, 1) for _ in range(10))[5]
        print(json.dumps({"rate": count / run(client, count), "single": single}))


def run(client: object, count: int) -> float:
    job = Job()
    for _ in range(count):
        job.program(["true"], stdout=None, stderr=None)
    began = time.perf_counter()
    client.wait_for_jobs([client.submit(job)])  # type: ignore[attr-defined]
    return time.perf_counter() - began


main()
