"""A Ray cluster of two nodes on this machine, as a process of its own: prints its address, then kills node 0 or 1 on a
line with its number.
"""

from __future__ import annotations

import json
import sys

from ray.cluster_utils import Cluster


def main() -> None:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        nodes = [cluster.add_node(num_cpus=2) for _ in range(2)]
        cluster.wait_for_nodes()
        print(json.dumps({"address": cluster.address, "nodes": [node.node_id for node in nodes]}), flush=True)
        for line in sys.stdin:
            cluster.remove_node(nodes[int(line)], allow_graceful=False)
            print("killed", flush=True)
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    main()
