"""A team that takes Waylink's jobs: a plain Celery app, which knows nothing of Waylink but the shape of a job."""

import os

from celery import Celery

app = Celery("crm", broker=os.environ["CRM_BROKER_URL"])
app.conf.update(
    task_default_queue="team.crm.jobs",
    task_acks_late=True,  # a job is taken off the queue when it is done, not when it is begun
    task_ignore_result=True,
)


@app.task(name="crm.import_contacts")
def import_contacts(job: dict) -> None:
    """A job may come twice (delivery is at least once): `job["id"]` stays the same, so remember what is done."""
    event = job["event"]
    print(f"{job['id']}: import the contacts of {event['connection_id']} for {event['tags']}", flush=True)
