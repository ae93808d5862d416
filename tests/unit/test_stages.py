"""What BuildKit prints, taken apart: recorded from the engines 20.10 and 26."""

from __future__ import annotations

import pytest

from tritonbuild.engine.stages import StageLogs

# Three stages at once: `one` prints what looks like BuildKit's own lines, `two` half a line at a time,
# and `three` fails.
OLD = """\
#0 building with "default" instance using docker driver

#1 [internal] load build definition from Dockerfile
#1 transferring dockerfile: 420B done
#1 DONE 0.0s

#2 [internal] load .dockerignore
#2 transferring context: 2B done
#2 DONE 0.1s

#3 [internal] load build context
#3 transferring context: 2.31MB 0.0s done
#3 DONE 0.1s

#4 [root 1/1] COPY root /
#4 DONE 0.0s

#5 [build-two 1/1] RUN --mount=type=bind,target=/s ["sh","/s/two.sh"]
#5 0.358 two:  piece piece piece piece
#5 ...

#6 [build-one 1/1] RUN --mount=type=bind,target=/s ["sh","/s/one.sh"]
#6 0.147 half of a line
#6 1.350 
#6 1.351 #12 [build-two 2/3] RUN no
#6 1.351 one [1/2] ]
#6 2.353 no end
#6 DONE 2.4s

#7 [trees 1/3] COPY --from=build-one /bin /one
#7 DONE 0.0s

#5 [build-two 1/1] RUN --mount=type=bind,target=/s ["sh","/s/two.sh"]
#5 0.358 two:  piece piece piece piece piece piece piece piece
#5 3.650 two ends
#5 CANCELED

#8 [build-three 1/1] RUN --mount=type=bind,target=/s ["sh","/s/three.sh"]
#8 5.342 error: three fails
#8 ERROR: executor failed running [sh /s/three.sh]: exit code: 7
------
 > [build-three 1/1] RUN --mount=type=bind,target=/s ["sh","/s/three.sh"]:
5.342 error: three fails
------
ERROR: failed to solve: executor failed running [sh /s/three.sh]: exit code: 7
"""

NEW = """\
#0 building with "second" instance using docker driver

#3 [internal] load build context
#3 transferring context: 2.31MB 0.0s done
#3 DONE 0.0s

#4 [root 1/1] COPY root /
#4 CACHED

#5 [build-three 1/1] RUN --mount=type=bind,target=/s ["sh","/s/three.sh"]
#5 ...

#6 [build-one 1/1] RUN --mount=type=bind,target=/s ["sh","/s/one.sh"]
#6 0.237 half of a line
#6 1.438 
#6 1.438 #12 [build-two 2/3] RUN no
#6 1.438 one [1/2] ]
#6 2.450 no end
#6 DONE 2.5s

#7 [trees 1/3] COPY --from=build-one /bin /one
#7 DONE 0.0s

#8 [build-two 1/1] RUN --mount=type=bind,target=/s ["sh","/s/two.sh"]
#8 0.158 two:  piece piece piece piece piece piece piece piece
#8 3.393 two ends
#8 ...

#5 [build-three 1/1] RUN --mount=type=bind,target=/s ["sh","/s/three.sh"]
#5 5.244 error: three fails
#5 ERROR: process "sh /s/three.sh" did not complete successfully: exit code: 7

#8 [build-two 1/1] RUN --mount=type=bind,target=/s ["sh","/s/two.sh"]
#8 CANCELED
------
 > [build-three 1/1] RUN --mount=type=bind,target=/s ["sh","/s/three.sh"]:
5.244 error: three fails
------
Dockerfile:8
--------------------
   6 |     RUN --mount=type=bind,target=/s ["sh","/s/two.sh"]
   7 |     FROM root AS build-three
   8 | >>> RUN --mount=type=bind,target=/s ["sh","/s/three.sh"]
--------------------
ERROR: failed to solve: process "sh /s/three.sh" did not complete successfully: exit code: 7
"""

NAMES = {f"build-{name}": name for name in ("one", "two", "three")}


def watch(folder, text):
    """Return the logs, what was shown, and whose log tells of the failure."""
    shown = []
    paths = {stage: folder / f"{name}.log" for stage, name in NAMES.items()}
    with StageLogs(paths, NAMES) as stages:
        take = stages.watch(shown.append)
        for line in text.split("\n"):
            take(line)
    logs = {name: paths[stage].read_text(encoding="utf-8") for stage, name in NAMES.items()}
    return logs, shown, stages.failed_log


@pytest.mark.parametrize("text", [OLD, NEW], ids=["20.10", "26"])
def test_each_stage_gets_what_its_scripts_printed(tmp_path, text):
    logs, shown, failed = watch(tmp_path, text)
    assert logs["one"] == "half of a line\n\n#12 [build-two 2/3] RUN no\none [1/2] ]\nno end\n"
    assert logs["two"].endswith("two:  piece piece piece piece piece piece piece piece\ntwo ends\n")
    assert logs["three"] == "error: three fails\n"
    assert failed == tmp_path / "three.log", "not that of the stage that was stopped for it"
    assert shown[0] == "sends what the containers are made of"
    assert "one: one [1/2] ]" in shown
    assert not [line for line in shown[1:] if line.split(": ")[0] not in NAMES.values()]


def test_numbers_are_those_of_one_build_only(tmp_path):
    assert watch(tmp_path, OLD)[2] != watch(tmp_path, "#8 ERROR: of nobody\n")[2]


def test_failure_before_any_script_is_nobodys(tmp_path):
    logs, _, failed = watch(
        tmp_path,
        '#5 [build-root 2/2] RUN ["bash", "-c", "test 1 = 1"]\n'
        "#5 0.102 exec /usr/bin/bash: exec format error\n"
        "#5 ERROR: executor failed running [bash -c test 1 = 1]: exit code: 1\n",
    )
    assert failed is None
    assert set(logs.values()) == {""}


def test_stage_of_a_platform_and_a_long_time(tmp_path):
    logs, *_ = watch(
        tmp_path,
        "#9 [linux/arm64 build-one 2/3] RUN x\n#9 1034. after a while\n#9 20011.5 later\n"
        "#10 [linux/amd64->arm64 build-two 2/3] RUN x\n#10 0.1 two\n",
    )
    assert logs["one"] == "after a while\nlater\n"
    assert logs["two"] == "two\n"
