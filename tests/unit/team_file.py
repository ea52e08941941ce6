"""A consumers' file that is right but for the lines under test."""

LINES = {
    "grpc-server-hostname": "    grpc-server-hostname: host\n",
    "grpc-server-port": "    grpc-server-port: 1\n",
    "retry-topic": "    retry-topic: {name}_retry\n",
    "dlq-topic": "    dlq-topic: {name}_dlq\n",
    "distribution": "    distribution: [{{topic: order_paid, services: [OrderPaid]}}]\n",
}


def team_file(*lines: str, name: str = "x", leave_out: str = "") -> str:
    """One consumer: the given lines, and each required key that is not among them."""
    keys = {line.strip("▸").split(":")[0] for line in lines} | {leave_out}
    rest = "".join(line.format(name=name.strip('▸"')) for key, line in LINES.items() if key not in keys)
    return f"consumers:\n  {name}:\n" + "".join(f"    {line}\n" for line in lines) + rest
