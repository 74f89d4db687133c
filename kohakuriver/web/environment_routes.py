"""The rows of the route table that are about environments (web/routes.py says what a row is)."""

from kohakuriver.domain.access import Action
from kohakuriver.web.api import blobs, containers, environments
from kohakuriver.web.call import Route
from kohakuriver.web.sockets.shell import container_shell
from kohakuriver.wire import api, envs_api, queries, urls
from kohakuriver.wire.environments import BLOB_TYPE, Missing, MissingAsk

JSON = "application/json"

VERSIONS = (
    Route(
        method="GET", path=urls.ENVIRONMENTS, handler=environments.list_environments, policy=Action.ENVIRONMENT_USE,
        query=queries.Paging, answer=api.Page[envs_api.EnvironmentView], summary="Every environment and its versions.",
    ),
    Route(
        method="GET", path=urls.ENVIRONMENT, handler=environments.show_environment, policy=Action.ENVIRONMENT_USE,
        answer=envs_api.EnvironmentView, summary="One environment.",
    ),
    Route(
        method="DELETE", path=urls.ENVIRONMENT, handler=environments.remove_environment, status=202,
        policy=Action.ENVIRONMENT_CHANGE, answer=envs_api.OperationView, summary="Remove all versions of it.",
    ),
    Route(
        method="DELETE", path=urls.ENVIRONMENT_VERSION, handler=environments.remove_version, status=202,
        policy=Action.ENVIRONMENT_CHANGE, answer=envs_api.OperationView, summary="Remove one version.",
    ),
    Route(
        method="POST", path=urls.ENVIRONMENT_BUILD, handler=environments.build_version, status=202, upload=True,
        policy=Action.ENVIRONMENT_CHANGE, query=envs_api.BuildQuery, answer=envs_api.OperationView,
        summary="Build a version from a tar of a context; answered when the builder has all of it.",
    ),
    Route(
        method="POST", path=urls.ENVIRONMENT_IMPORT, handler=environments.import_version, status=202, upload=True,
        policy=Action.ENVIRONMENT_CHANGE, query=envs_api.ImportQuery, answer=envs_api.OperationView,
        summary="Make a version of an image's archive; answered when the builder has all of it.",
    ),
    Route(
        method="POST", path=urls.ENVIRONMENT_REFERENCE, handler=environments.publish_reference, status=202,
        policy=Action.ENVIRONMENT_CHANGE, body=envs_api.ReferenceAsk, answer=envs_api.OperationView,
        summary="Make a version of the image behind a reference.",
    ),
    Route(
        method="GET", path=urls.ENVIRONMENTS_STORED, handler=environments.list_stored,
        policy=Action.ENVIRONMENT_CHANGE, query=envs_api.StoredQuery, answer=api.Page[envs_api.StoredView],
        summary="What lies where versions are kept.",
    ),
    Route(
        method="GET", path=urls.OPERATIONS, handler=environments.list_operations, policy=Action.ENVIRONMENT_CHANGE,
        query=envs_api.OperationsQuery, answer=api.Page[envs_api.OperationView],
        summary="What is under way, and what was of late.",
    ),
    Route(
        method="GET", path=urls.OPERATION, handler=environments.show_operation, policy=Action.ENVIRONMENT_CHANGE,
        query=envs_api.OperationQuery, answer=envs_api.OperationView, media=(JSON, envs_api.NDJSON_TYPE), long=True,
        summary="How it stands; with `follow=1` a line with every change, until its end.",
    ),
    Route(
        method="GET", path=urls.IMAGES, handler=environments.list_images, policy=Action.ENVIRONMENT_USE,
        query=queries.Paging, answer=api.Page[envs_api.ImageView], summary="The images on every node.",
    ),
    Route(
        method="GET", path=urls.NODE_IMAGES, handler=environments.list_node_images, policy=Action.ENVIRONMENT_USE,
        query=queries.Paging, answer=api.Page[envs_api.ImageView], summary="The images on one node.",
    ),
)  # fmt: skip

CONTAINERS = (
    Route(
        method="GET", path=urls.CONTAINERS, handler=containers.list_containers, policy=Action.ENVIRONMENT_CHANGE,
        query=queries.Paging, answer=api.Page[envs_api.ContainerView], summary="The environment containers.",
    ),
    Route(
        method="POST", path=urls.CONTAINERS, handler=containers.create_container, policy=Action.ENVIRONMENT_CHANGE,
        status=202, body=envs_api.NewContainer, answer=envs_api.OperationView,
        summary="A new one, of an image or of a version.",
    ),
    Route(
        method="POST", path=urls.CONTAINER_START, handler=containers.start_container, status=204,
        policy=Action.ENVIRONMENT_CHANGE, summary="Let it run.",
    ),
    Route(
        method="POST", path=urls.CONTAINER_STOP, handler=containers.stop_container, status=204,
        policy=Action.ENVIRONMENT_CHANGE, summary="Stop it; its files stay.",
    ),
    Route(
        method="DELETE", path=urls.CONTAINER, handler=containers.delete_container, status=204,
        policy=Action.ENVIRONMENT_CHANGE, summary="Remove it with everything in it.",
    ),
    Route(
        method="POST", path=urls.CONTAINER_PACKAGE, handler=containers.package_container, status=202,
        policy=Action.ENVIRONMENT_CHANGE, body=envs_api.PackageAsk, answer=envs_api.OperationView,
        summary="Make it the next version of the environment of its name.",
    ),
    Route(
        method="GET", path=urls.CONTAINER_SHELL, handler=container_shell, policy=Action.ENVIRONMENT_CHANGE,
        query=envs_api.ShellQuery, socket=True, long=True, summary="A terminal in it.",
    ),
    Route(
        method="GET", path=urls.CONTAINER_FILES, handler=containers.list_files, policy=Action.ENVIRONMENT_CHANGE,
        query=envs_api.PathQuery, answer=api.Page[envs_api.FileView], summary="The entries of a directory in it.",
    ),
    Route(
        method="DELETE", path=urls.CONTAINER_FILES, handler=containers.delete_file, status=204,
        policy=Action.ENVIRONMENT_CHANGE, query=envs_api.DeleteQuery, summary="Delete a file or directory in it.",
    ),
    Route(
        method="GET", path=urls.CONTAINER_STAT, handler=containers.stat_file, policy=Action.ENVIRONMENT_CHANGE,
        query=envs_api.PathQuery, answer=envs_api.FileView, summary="A file in it, as lstat tells.",
    ),
    Route(
        method="GET", path=urls.CONTAINER_CONTENT, handler=containers.read_file, policy=Action.ENVIRONMENT_CHANGE,
        query=envs_api.PathQuery, answer=bytes, media=(containers.BYTES,), long=True, summary="The bytes of a file.",
    ),
    Route(
        method="PUT", path=urls.CONTAINER_CONTENT, handler=containers.write_file, status=204, upload=True,
        policy=Action.ENVIRONMENT_CHANGE, query=envs_api.WriteQuery, summary="Make or replace a file.",
    ),
    Route(
        method="POST", path=urls.CONTAINER_FOLDERS, handler=containers.make_folder, status=204,
        policy=Action.ENVIRONMENT_CHANGE, body=envs_api.FolderAsk, summary="Make a directory.",
    ),
    Route(
        method="POST", path=urls.CONTAINER_RENAME, handler=containers.rename_file, status=204,
        policy=Action.ENVIRONMENT_CHANGE, body=envs_api.RenameAsk, summary="Give a file another name.",
    ),
)  # fmt: skip

BLOBS = (
    Route(
        method="POST", path=urls.NODE_BLOBS_MISSING, handler=blobs.list_missing, policy=Action.LINK, body=MissingAsk,
        answer=Missing, summary="For nodes: which contents the host has not got.",
    ),
    Route(
        method="PUT", path=urls.NODE_BLOB, handler=blobs.put_blob, policy=Action.LINK, status=204, upload=True,
        summary="For nodes: bring a content.",
    ),
    Route(
        method="GET", path=urls.NODE_BLOB, handler=blobs.get_blob, policy=Action.LINK, answer=bytes,
        media=(BLOB_TYPE,), summary="For nodes: fetch a content, or a part of it.",
    ),
)  # fmt: skip

ENVIRONMENTS: tuple[Route, ...] = VERSIONS + CONTAINERS + BLOBS
