from tortoise import fields, migrations
from tortoise.migrations import operations as ops


class Migration(migrations.Migration):
    dependencies = [("store", "0001_initial")]

    operations = [
        ops.AddField(model_name="UserRow", name="most_running", field=fields.BigIntField(null=True)),
        ops.AddField(model_name="UserRow", name="most_cores", field=fields.BigIntField(null=True)),
        ops.AddField(model_name="UserRow", name="most_memory", field=fields.BigIntField(null=True)),
        ops.AddField(model_name="UserRow", name="most_devices", field=fields.BigIntField(null=True)),
        ops.AddField(
            model_name="NodeRow",
            name="cordons",
            field=fields.TextField(default="{}", db_default="{}", unique=False),
        ),
        ops.AddField(model_name="TaskRow", name="ready", field=fields.BigIntField(null=True)),
        ops.AddField(model_name="TaskRow", name="retried", field=fields.BigIntField(default=0, db_default=0)),
    ]
