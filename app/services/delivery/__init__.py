"""Jobs on their way to teams: claim, deliver by Celery or HTTP, record."""
