"""What this host, or a board, has and lacks for a plan, and the commands that mend it."""

from tritonbuild.doctor.board import judge_board
from tritonbuild.doctor.mend import examine, mend
from tritonbuild.doctor.model import Finding, Need, Status
from tritonbuild.doctor.needs import make_needs

__all__ = ["Finding", "Need", "Status", "examine", "judge_board", "make_needs", "mend"]
