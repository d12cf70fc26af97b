import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import small_game as small

AT_THE_END = """
import atexit, pathlib, sys
import torch
from evenhand.multilabel.neural.processes import processes

is_joined = torch.distributed.is_initialized
atexit.register(lambda: pathlib.Path(sys.argv[1]).write_text(f"{n} processes, joined: {is_joined()}"))
n = processes().num_processes
assert is_joined() and processes().num_processes == n
"""


def test_a_process_leaves_the_others_at_its_end(tmp_path):
    outs = [tmp_path / "0", tmp_path / "1"]
    small.launch([["-c", AT_THE_END, str(out)] for out in outs])
    assert [out.read_text() for out in outs] == ["2 processes, joined: False"] * 2
