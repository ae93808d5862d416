"""Where a source build works, and in which of two forms its commands are written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath

from tritonbuild.plan.model import Executor

# Where sources are in what is built (__FILE__, debug information), wherever they really were; in a
# container they are there. The same on all machines, so that one can use what another compiled.
HOME = PurePosixPath("/usr/src/tritonserver")

# Where programs of the machine that builds are in a root of another architecture. Their loader and
# libraries have to be where they were linked to look: the root has links there.
HOST_PROGRAMS = PurePosixPath("/opt/native")

# Where ccache keeps what was compiled in a root or a container.
CCACHE_DIR = PurePosixPath("/var/cache/ccache")


@dataclass(frozen=True)
class SourceLayout:
    """The folders of a source build.

    Attributes:
        build_dir: Clones and CMake's build folders; absolute.
        server_dir: The server's sources.
        work_dir: tritonbuild's work directory; None for the form of upstream's script, which
            fetches for itself and runs `make`.
        install_dir: The tree of upstream's script; opt/tritonserver below `build_dir` where it is
            None.
        fetch_server: The server's sources are fetched where they are not there.
        downloads: Scripts in a work directory bring their archives themselves.
    """

    build_dir: PurePosixPath
    server_dir: PurePosixPath
    work_dir: PurePosixPath | None = None
    install_dir: PurePosixPath | None = None
    fetch_server: bool = True
    downloads: bool = False

    @classmethod
    def of_work_dir(cls, work_dir: PurePosixPath) -> SourceLayout:
        """Return the folders inside a work directory."""
        return cls(work_dir / "build", work_dir / "server", work_dir)

    @classmethod
    def of_build(cls, executor: Executor | None, work_dir: PurePosixPath) -> SourceLayout:
        """Return the folders of a build as its scripts see them.

        Args:
            executor: Where they run.
            work_dir: The work directory on this machine.
        """
        return cls.of_work_dir(HOME if executor is Executor.BUILDX else work_dir)

    @classmethod
    def of_script(
        cls, build_dir: PurePosixPath, server_dir: PurePosixPath | None = None
    ) -> SourceLayout:
        """Return the folders of a script that runs without tritonbuild.

        Args:
            build_dir: Where it builds.
            server_dir: The server's sources; the folder around `build_dir` where it is not named,
                as in upstream's build.py.
        """
        # Nobody wants a checkout in /.
        around = build_dir.parent if build_dir.parent.name else build_dir / "server"
        return cls(build_dir, server_dir or around)

    @property
    def sources_dir(self) -> PurePosixPath | None:
        """What came from outside: `git/HOST/PATH.git` and `archives/NAME/FILE`."""
        return self.work_dir / "sources" if self.work_dir else None

    def tree_of(self, component: str) -> PurePosixPath:
        """Return the tree that a component is installed to, laid out as /opt/tritonserver.

        Upstream has one for all. In a work directory each component has its own, so that they can
        be made at the same time, and none is left over when a component is left out.
        """
        if self.work_dir is None:
            return self.install_dir or self.build_dir / "opt" / "tritonserver"
        return self.work_dir / "trees" / component

    def install_prefix_of(self, component: str) -> PurePosixPath:
        """Return CMAKE_INSTALL_PREFIX of a component, where build.py puts it."""
        return self.build_dir / ("tritonserver" if component == "core" else component) / "install"

    def archive_dir(self, name: str) -> PurePosixPath:
        """Return where a ready-made archive is unpacked to."""
        return self.build_dir / "archives" / name

    def archive_path(self, name: str, file: str) -> PurePosixPath:
        """Return where an archive lies before it is unpacked."""
        if self.sources_dir is None:
            return self.build_dir / "archives" / file
        return self.sources_dir / "archives" / name / file
