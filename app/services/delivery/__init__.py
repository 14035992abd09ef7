"""Delivery of jobs to teams: claim, send by Celery or HTTP, record."""
