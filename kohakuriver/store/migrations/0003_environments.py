from tortoise import fields, migrations
from tortoise.fields.base import OnDelete
from tortoise.migrations import operations as ops


class Migration(migrations.Migration):
    dependencies = [("store", "0002_limits_cordons_retries")]

    operations = [
        ops.CreateModel(
            name="EnvironmentRow",
            fields=[
                ("name", fields.CharField(primary_key=True, unique=True, db_index=True, max_length=63)),
                ("highest", fields.BigIntField(default=0)),
                ("created", fields.BigIntField()),
            ],
            options={"table": "environments", "app": "store", "pk_attr": "name"},
            bases=["Model"],
        ),
        ops.CreateModel(
            name="VersionRow",
            fields=[
                ("id", fields.CharField(primary_key=True, unique=True, db_index=True, max_length=84)),
                (
                    "environment",
                    fields.ForeignKeyField(
                        "store.EnvironmentRow",
                        source_field="environment_id",
                        db_constraint=True,
                        to_field="name",
                        related_name=False,
                        on_delete=OnDelete.RESTRICT,
                    ),
                ),
                ("number", fields.BigIntField()),
                ("digest", fields.CharField(max_length=71)),
                ("size", fields.BigIntField(default=0)),
                ("syncer", fields.CharField(max_length=64)),
                ("locator", fields.TextField(default="", unique=False)),
                ("blobs", fields.TextField(default="[]", unique=False)),
                ("author", fields.CharField(max_length=255)),
                ("note", fields.TextField(default="", unique=False)),
                ("created", fields.BigIntField()),
                ("removing", fields.BooleanField(default=False)),
            ],
            options={
                "table": "environment_versions",
                "app": "store",
                "unique_together": (("environment", "number"),),
                "pk_attr": "id",
            },
            bases=["Model"],
        ),
    ]
