"""Tasks over HTTP: decode, call, encode."""

from aiohttp import web

from kohakuriver.errors import KohakuRiverError
from kohakuriver.host import control, foresee, output, submit, tasks
from kohakuriver.web.call import Call
from kohakuriver.wire import api, placing, queries

BYTES = "application/octet-stream"


async def create_tasks(call: Call[queries.Query, api.SubmitTask]) -> api.Submitted:
    """Submits tasks; the same Idempotency-Key and body get the same answer."""
    return await submit.submit_tasks(call.host, call.actor, call.body, key=call.key, body=call.raw)


async def list_tasks(call: Call[queries.TaskQuery, None]) -> api.Page[api.TaskView]:
    """A page of tasks."""
    query = call.query
    return await tasks.list_tasks(
        call.host,
        call.actor,
        status=set(query.status),
        owner="me" if query.mine else query.owner,
        node=query.node,
        name=query.name,
        batch=query.batch,
        sort=query.sort,
        cursor=query.cursor,
        limit=query.limit,
    )


async def show_task(call: Call[queries.Query, None]) -> api.TaskView:
    """One task."""
    return await tasks.show_task(call.host, call.actor, call.part("task"))


async def explain_task(call: Call[queries.Query, None]) -> placing.ExplainView:
    """Why it stands where it stands."""
    return await foresee.explain(call.host, call.actor, call.part("task"))


async def plan_tasks(call: Call[queries.Query, api.SubmitTask]) -> placing.PlanView:
    """What a submission would mean."""
    return await foresee.plan_tasks(call.host, call.actor, call.body)


async def list_history(call: Call[queries.Paging, None]) -> api.Page[api.EventView]:
    """What happened to it."""
    return await tasks.history(call.host, call.actor, call.part("task"))


async def list_attempts(call: Call[queries.Paging, None]) -> api.Page[api.AttemptView]:
    """Its runs."""
    return await tasks.attempts(call.host, call.actor, call.part("task"))


async def wait_task(call: Call[queries.WaitQuery, None]) -> api.TaskView:
    """The task at its end, or after the time."""
    return await tasks.wait_task(call.host, call.actor, call.part("task"), call.query.timeout)


async def kill_task(call: Call[queries.Query, api.Kill]) -> api.TaskView:
    """Ends it."""
    return await control.kill(call.host, call.actor, call.part("task"), call.body.grace)


async def pause_task(call: Call[queries.Query, None]) -> api.TaskView:
    """Freezes it."""
    return await control.pause(call.host, call.actor, call.part("task"))


async def resume_task(call: Call[queries.Query, None]) -> api.TaskView:
    """Lets it go on."""
    return await control.resume(call.host, call.actor, call.part("task"))


async def requeue_task(call: Call[queries.Query, None]) -> api.TaskView:
    """Begins it anew."""
    return await control.requeue(call.host, call.actor, call.part("task"))


async def approve_task(call: Call[queries.Query, None]) -> api.TaskView:
    """Lets it into the queue."""
    return await control.approve(call.host, call.actor, call.part("task"))


async def reject_task(call: Call[queries.Query, api.Remark]) -> api.TaskView:
    """Refuses it for good."""
    return await control.reject(call.host, call.actor, call.part("task"), call.body.reason or "rejected")


async def declare_task_lost(call: Call[queries.Query, api.Remark]) -> api.TaskView:
    """Gives it up."""
    return await control.declare_lost(call.host, call.actor, call.part("task"), call.body.reason or "declared lost")


async def read_output(call: Call[queries.OutputQuery, None]) -> web.StreamResponse:
    """Bytes of one stream. `X-Offset` is where the first lies, `X-Dropped` how many before it are gone, `X-At-Least`
    that there may have been more than is here.
    """
    query = call.query
    reading = await output.read_output(
        call.host,
        call.actor,
        call.part("task"),
        call.part("stream"),
        attempt=query.attempt,
        offset=query.offset,
        limit=query.limit,
        tail=query.tail,
        follow=query.follow,
    )
    response = web.StreamResponse(headers={"X-Offset": str(reading.offset), "X-Dropped": str(reading.dropped)})
    response.content_type = BYTES
    if reading.at_least:
        response.headers["X-At-Least"] = "true"
    response.headers["Content-Disposition"] = "attachment"
    response.headers["X-Accel-Buffering"] = "no"
    try:
        await response.prepare(call.request)
        async for chunk in reading.chunks:
            await response.write(chunk)
        await response.write_eof()
    except KohakuRiverError as error:
        # the status is sent already: breaking off is the only way left to say that this is not all
        raise ConnectionError(f"output broke off: {error}") from error
    finally:
        await reading.close()
    return response
