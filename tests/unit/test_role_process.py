"""What a process of a house does before its roles run."""

import subprocess
import sys

SCRIPT = """
import resource
from pulseweir.role_process import allow_connections
_, most = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (256, most))
allow_connections()
now, still = resource.getrlimit(resource.RLIMIT_NOFILE)
assert still == most, still
assert now == most or now >= 65_536, now
"""


def test_a_process_takes_as_many_connections_as_the_system_allows() -> None:
    subprocess.run([sys.executable, "-c", SCRIPT], check=True, timeout=60)
