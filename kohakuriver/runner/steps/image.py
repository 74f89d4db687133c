"""The step that says which image a body is made of. Fetches nothing."""

from kohakuriver.errors import Invalid
from kohakuriver.hooks.backend import Backend
from kohakuriver.hooks.capabilities import CanPackage
from kohakuriver.hooks.values import Image
from kohakuriver.runner.environments import words
from kohakuriver.wire.link import Assign


def image(assign: Assign, backend: Backend) -> Image | None:
    """The version of an environment by its digest, or the image by its reference; None for a backend that runs on the
    node's own files. Raises Invalid for what this backend cannot have.
    """
    if not backend.features.images:
        if assign.image is not None or assign.container is not None:
            given = assign.image or assign.container
            raise Invalid(f"backend {backend.name} takes no image; leave it out", field="image", value=given)
        return None
    kind = min(backend.features.images)
    if assign.environment is not None:
        if not isinstance(backend, CanPackage):
            given = assign.environment.environment
            raise Invalid(f"backend {backend.name} takes no environments", field="container", value=given)
        return words.image_of(assign.environment, kind)
    if assign.image is None:
        raise Invalid(f"backend {backend.name} needs an image", field="image")
    return words.reference(assign.image, assign.pull, kind)
