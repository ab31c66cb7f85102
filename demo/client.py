"""A small client, as the Lambda function of the article is one: the endpoint and the port come from the environment."""

import json
import os
import time

from redis.cluster import RedisCluster

address = os.environ["CONFIGURATION_ENDPOINT_ADDRESS"]
port = int(os.environ["REDIS_PORT"])

began = time.monotonic()
client = RedisCluster(host=address, port=port, decode_responses=True)
nodes = sorted(f"{node.host}:{node.port} {node.server_type}" for node in client.get_nodes())

client.set("hogehoge", "fugafuga")
for number in range(100):
    client.set(f"demo:{number}", number)
read = sum(int(client.get(f"demo:{number}")) == number for number in range(100))
assert read == 100, f"{read} of 100 keys were read back"

print(
    json.dumps(
        {
            "redis_result": client.get("hogehoge"),
            "keys_written_and_read": read,
            "nodes": nodes,
            "milliseconds": round((time.monotonic() - began) * 1000),
        },
        indent=2,
    )
)
