"""A team that takes Waylink's jobs over HTTP: verify, do it once, answer 2xx."""

import os
import sqlite3

from standardwebhooks import Webhook, WebhookVerificationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

webhook = Webhook(os.environ["WEBHOOK_SECRET"])
database = sqlite3.connect(os.environ.get("DATABASE", "team.db"))
database.execute("CREATE TABLE IF NOT EXISTS done (job TEXT PRIMARY KEY)")


async def take(request: Request) -> Response:
    """2xx: it is done. Anything else, an exception's 500 too: Waylink sends the job again later, with the same id."""
    try:
        job = webhook.verify(await request.body(), request.headers)
    except (WebhookVerificationError, ValueError):  # what is no signature at all is a ValueError
        return Response(status_code=401)
    with database:  # one transaction: the work and the note that it is done, or neither
        if database.execute("INSERT OR IGNORE INTO done VALUES (?)", [job["id"]]).rowcount:
            event = job["event"]
            print(f"{job['id']}: count a seat for {event['connection_id']} of {event['tags']}", flush=True)
    return Response(status_code=204)


app = Starlette(routes=[Route("/waylink", take, methods=["POST"])])
