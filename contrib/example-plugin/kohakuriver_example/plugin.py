"""The plugin's hooks: a backend and a syncer."""

from kohakuriver.hooks.spec import hookimpl

from kohakuriver_example.backend import ExampleBackend
from kohakuriver_example.syncer import ExampleSyncer

kohakuriver_api_version = hookimpl(lambda: 1)
kohakuriver_backends = hookimpl(lambda: [ExampleBackend])
kohakuriver_syncers = hookimpl(lambda: [ExampleSyncer])
