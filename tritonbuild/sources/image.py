"""Container images: the digest that a name stands for today."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tritonbuild.errors import HostError, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Sequence


def find_digest(name: str, candidates: Sequence[str]) -> str:
    """Return the digest of an image, asked of its registry; nothing is pulled.

    Docker asks, because it knows the user's registries, proxies and passwords.

    Args:
        name: The image as upstream names it.
        candidates: Names to try, in order.

    Raises:
        HostError: Docker does not answer.
        UnreachableError: No registry has the image, or none can be reached.
    """
    import docker
    from docker.errors import APIError, DockerException

    errors: list[str] = []
    try:
        client = docker.from_env(timeout=60)
        try:
            for candidate in candidates:
                try:
                    return str(client.api.inspect_distribution(candidate)["Descriptor"]["digest"])
                except (APIError, KeyError, TypeError) as err:
                    errors.append(f"  {candidate}: {getattr(err, 'explanation', None) or err}")
        finally:
            client.close()
    except DockerException as err:
        msg = f"Docker does not answer, and is needed for the image {name}: {err}"
        raise HostError(msg, hint="is it running, and may you use it? `docker info` says") from err
    msg = "\n".join([f"cannot find the digest of the image {name}", *errors])
    raise UnreachableError(
        msg, hint="check its name and the network; --mirror has other registries"
    )
