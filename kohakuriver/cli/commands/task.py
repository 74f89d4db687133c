"""`kohakuriver task`: the grammar. What submits, waits and shows output has files of its own, loaded when used."""

import argparse

from kohakuriver.cli.connect import connect
from kohakuriver.cli.output import Output
from kohakuriver.cli.shown import TASKS, TASKS_COMPACT
from kohakuriver.wire import urls

HELP = "submit tasks, look at them, end them"


def add(parser: argparse.ArgumentParser) -> None:
    """Build the verbs."""
    verbs = parser.add_subparsers(metavar="VERB")
    _add_submit(verbs.add_parser("submit", help="run a command on the cluster", description=_SUBMIT))
    _add_list(verbs.add_parser("list", aliases=["ls"], help="tasks, newest first"))
    _one(verbs.add_parser("status", aliases=["show"], help="everything about one task")).set_defaults(run=show)
    _add_logs(verbs.add_parser("logs", help="what a task wrote"))
    _add_changes(verbs)
    wait = verbs.add_parser("wait", help="until tasks end; exits with their code")
    wait.add_argument("tasks", metavar="TASK", nargs="*", help=_ONE)
    wait.add_argument("--batch", metavar="TASK", help=_BATCH)
    wait.add_argument("--timeout", metavar="TIME", help="give up after this long (exit 124); the tasks go on")
    wait.set_defaults(run=wait_for_tasks)
    _one(verbs.add_parser("watch", help="each change of a task until it ends")).set_defaults(run=watch)
    _one(verbs.add_parser("explain", help="why it waits, and what each node says")).set_defaults(run=explain)
    _one(verbs.add_parser("history", help="what happened to it, and through whom")).set_defaults(run=history)
    _one(verbs.add_parser("attempts", help="its runs, with what they used")).set_defaults(run=attempts)


_SUBMIT = """Run a command on the cluster and print the task's id.

  kohakuriver task submit -t node1::0,1 -c 4 -m 8G --name train -- python train.py
  kohakuriver task submit --wait -- make -j4        exits with make's code
  kohakuriver task submit --script job.sh -- --epochs 3

Options end at the command; `--` marks where it begins. Ctrl-C leaves the task running."""


def _add_submit(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("-t", "--target", metavar="TARGET", action="append", default=[], help="node[:numa][::gpu,...]; one task each")
    add("--constraint", metavar="K=V", action="append", default=[], help="label of its node: K=V, K!=V or K")
    add("-c", "--cores", metavar="N", type=int, default=1, help="CPU limit in cores; 0 is none (1)")
    add("-m", "--memory", metavar="SIZE", help="memory limit, such as 512M or 8G")
    add("--pin", action="store_true", help="N whole cores of its own")
    add("-g", "--gpus", metavar="WISH", help="a number, a model (a6000:2) or a size (24GB)")
    add("--container", metavar="NAME[:VERSION]", help="environment to run in (newest); NULL: none, a plain process")
    add("--image", metavar="REF", help="image of a registry")
    add("--pull", choices=("missing", "always", "never"), help="when the image is fetched (missing)")
    add("--backend", metavar="NAME", help="what runs it, such as process")
    add("--option", metavar="K=V", action="append", default=[], help="option of the backend")
    add(
        "--mount", metavar="DIR:DIR[:ro]", action="append", default=[], help="directory of the node that may be mounted"
    )
    add("--network", choices=("private", "none", "host"), help="of a container; host is the node's own, for operators")
    add("--privileged", action="store_true", help="a container with all rights on its node, for operators")
    add("--script", metavar="FILE", help="run this script, - for standard input; the command are its arguments")
    add("-e", "--env", metavar="K=V", action="append", default=[], help="environment; K alone takes your value")
    add("--secret", metavar="K[=V]", action="append", default=[], help="as --env, and never shown again")
    add("-n", "--name", help="a name for people")
    add("--workdir", metavar="DIR", help="directory to run in")
    add("--time-limit", metavar="TIME", help="end it after running this long, such as 2h30m")
    add("--grace", metavar="TIME", help="between SIGTERM and SIGKILL, such as 30s")
    add("-p", "--priority", metavar="N", type=int, default=0, help="-1000 to 1000 (0)")
    add("--copies", metavar="N", type=int, default=1, help="this many tasks for each target")
    add("--dry-run", action="store_true", help="say where it would go and when; nothing is submitted")
    add("-w", "--wait", action="store_true", help="wait for the end, exit with the task's code")
    add("--logs", action="store_true", help="show its output while waiting; implies --wait")
    add("--timeout", metavar="TIME", help="wait at most this long (exit 124); the task goes on")
    _add_many(parser)
    add("command", metavar="CMD", nargs=argparse.REMAINDER, help="the command and its arguments")
    parser.set_defaults(run=submit)


def _add_many(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--array", metavar="INDICES", help="one task per index: 0-15, 1,3,8-12:2; 0-15%%4: four of them at once")
    add("--span", action="store_true", help="one task per combination of words as span:{0..3} and span:[a,b]")
    add("--at-once", metavar="N", type=int, help="so many of the array or the spans under way at once")
    add("--after", metavar="TASK", action="append", default=[], help="start when this ended well; batch:TASK: all")
    add("--after-any", metavar="TASK", action="append", default=[], help="start when this ended, however it was")
    add("--retries", metavar="N", type=int, default=0, help="try again so often when it did not end well")
    add("--retry-on", metavar="CAUSE", action="append", default=[], help="failed, oom, timeout, lost-node (failed)")
    add("--retry-delay", metavar="TIME", help="between the tries, such as 30s")
    add("--requeue", action="store_true", help="begin anew when its node is gone, which then ends it by itself")


def _add_list(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("-s", "--status", metavar="STATUS", action="append", help="only these; several with commas")
    add("-n", "--node", metavar="NODE", help="only those on this node")
    add("-l", "--limit", metavar="N", type=int, default=50, help="at most so many (50)")
    add("--all", action="store_true", help="all of them, page by page")
    add("--owner", metavar="USER", help="only those of this user")
    add("--mine", action="store_true", help="only my own")
    add("--name", metavar="NAME", help="only those of this name")
    add("--batch", metavar="TASK", help=_BATCH)
    add("--sort", metavar="FIELD", help="sort by this field; --sort=-FIELD turns it round")
    add("-c", "--compact", action="store_true", help="fewer columns")
    parser.set_defaults(run=list_tasks)


def _add_logs(parser: argparse.ArgumentParser) -> None:
    _one(parser)
    parser.add_argument("-e", "--stderr", action="store_true", help="standard error instead of standard output")
    parser.add_argument("-f", "--follow", action="store_true", help="go on until the task ends")
    parser.add_argument("--tail", metavar="N", type=int, help="the last N lines")
    parser.add_argument("--offset", metavar="BYTE", type=int, help="from this byte on")
    parser.add_argument("--attempt", metavar="N", type=int, help="of an earlier run; the last is usual")
    parser.set_defaults(run=logs)


def _add_changes(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    words = {
        "kill": ("end them", urls.TASK_KILL, "will be killed"),
        "pause": ("freeze them; they keep what they hold", urls.TASK_PAUSE, "will be paused"),
        "resume": ("let them go on", urls.TASK_RESUME, "will go on"),
        "requeue": ("end the present attempt and begin another", urls.TASK_REQUEUE, "will begin anew"),
        "approve": ("let waiting tasks of others run", urls.TASK_APPROVE, "is approved"),
        "reject": ("refuse waiting tasks of others", urls.TASK_REJECT, "is rejected"),
        "lose": ("declare them lost: their node will not come back", urls.TASK_LOSE, "is declared lost"),
    }
    for verb, (text, template, sentence) in words.items():
        parser = verbs.add_parser(verb, help=text)
        parser.add_argument("tasks", metavar="TASK", nargs="*" if verb in _WHOLE else "+", help=_ONE)
        parser.set_defaults(run=change, template=template, sentence=sentence, verb=verb, batch=None)
        if verb in _WHOLE:
            parser.add_argument("--batch", metavar="TASK", help=_BATCH)
        if verb == "kill":
            parser.add_argument("--grace", metavar="TIME", help="between SIGTERM and SIGKILL, such as 30s")
        if verb in {"reject", "lose"}:
            parser.add_argument("--reason", metavar="WORDS", help="why, for its owner")


_ONE = "id, end of an id, or name"
_BATCH = "the whole submission that this task belongs to; or an array by its name"
#: what can be asked of a whole batch
_WHOLE = {"kill": urls.BATCH_KILL, "pause": urls.BATCH_PAUSE, "resume": urls.BATCH_RESUME}


def _one(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser.add_argument("task", metavar="TASK", help=_ONE)
    return parser


def list_tasks(args: argparse.Namespace, out: Output) -> int:
    """A page, or all pages with `--all`."""
    from kohakuriver.cli.paging import print_pages

    query: dict[str, object] = {
        "status": ",".join(args.status) if args.status else None,
        "node": args.node,
        "owner": "me" if args.mine else args.owner,
        "name": args.name,
        "batch": args.batch,
        "sort": args.sort,
    }
    columns = TASKS_COMPACT if args.compact else TASKS
    return print_pages(connect(args, out), urls.TASKS, query, out, columns=columns, limit=args.limit, every=args.all)


def show(args: argparse.Namespace, out: Output) -> int:
    """One task."""
    from kohakuriver.cli.taskview import print_task

    return print_task(connect(args, out).get(urls.fill(urls.TASK, task=args.task)), out)


def change(args: argparse.Namespace, out: Output) -> int:
    """Ask for the change of each task; those after a refusal are still asked for."""
    if args.batch is not None or not args.tasks:
        from kohakuriver.cli.batches import change_batch

        return change_batch(args, out, _WHOLE[args.verb])
    from kohakuriver.cli.taskview import change_tasks

    return change_tasks(args, out)


def submit(args: argparse.Namespace, out: Output) -> int:
    """Submit, and wait if asked."""
    from kohakuriver.cli.submit import submit_tasks

    return submit_tasks(args, out)


def logs(args: argparse.Namespace, out: Output) -> int:
    """Bytes of the output to stdout."""
    from kohakuriver.cli.logs import print_logs

    return print_logs(args, out)


def wait_for_tasks(args: argparse.Namespace, out: Output) -> int:
    """Until all have ended."""
    if args.batch is not None or not args.tasks:
        from kohakuriver.cli.batches import wait_for_batch

        return wait_for_batch(args, out)
    from kohakuriver.cli.waiting import wait_command

    return wait_command(args, out)


def watch(args: argparse.Namespace, out: Output) -> int:
    """A line for each change."""
    from kohakuriver.cli.waiting import watch_task

    return watch_task(args, out)


def explain(args: argparse.Namespace, out: Output) -> int:
    """Why it stands where it stands."""
    from kohakuriver.cli.taskview import explain_task

    return explain_task(args, out)


def history(args: argparse.Namespace, out: Output) -> int:
    """Its events."""
    from kohakuriver.cli.taskview import HISTORY, list_of_task

    return list_of_task(args, out, urls.TASK_HISTORY, HISTORY)


def attempts(args: argparse.Namespace, out: Output) -> int:
    """Its runs."""
    from kohakuriver.cli.taskview import ATTEMPTS, list_of_task

    return list_of_task(args, out, urls.TASK_ATTEMPTS, ATTEMPTS, name="attempt")
