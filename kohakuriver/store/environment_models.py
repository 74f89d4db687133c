"""The tables of environments; `models.py` says how tables are written, and names these beside its own."""

from tortoise import fields
from tortoise.models import Model

from kohakuriver.store.columns import to


# Named series of versions. Kept without versions too, so that no number comes twice.
class EnvironmentRow(Model):
    name = fields.CharField(max_length=63, primary_key=True)
    # the highest number that was ever set aside
    highest = fields.BigIntField(default=0)
    created = fields.BigIntField()

    class Meta:
        table = "environments"


# Immutable versions; the id is `<name>:<number>`. A row exists once all of the version lies where nodes can have it.
class VersionRow(Model):
    id = fields.CharField(max_length=84, primary_key=True)
    environment = to("EnvironmentRow")
    number = fields.BigIntField()
    # of the image
    digest = fields.CharField(max_length=71)
    # bytes of all layers
    size = fields.BigIntField(default=0)
    syncer = fields.CharField(max_length=64)
    # the syncer's own
    locator = fields.TextField(default="")
    # JSON list of contents in the host's blob store
    blobs = fields.TextField(default="[]")
    # who made it, in words
    author = fields.CharField(max_length=255)
    note = fields.TextField(default="")
    created = fields.BigIntField()
    # it is being removed: nobody can name it any more
    removing = fields.BooleanField(default=False)

    class Meta:
        table = "environment_versions"
        unique_together = (("environment", "number"),)
