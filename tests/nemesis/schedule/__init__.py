"""The nemesis of schedules: no tick and no scheduled job is missed, doubled, or run after its
cancellation.

Three arbiters keep the same periodic and scheduled jobs, behind a proxy that loses requests and
replies. One is killed again and again, one is stopped and continued, one is reloaded, executed anew
and restarted. A stock `rq worker --with-scheduler` serves a queue of its own beside them. Nobody
serves the queues of the ticks and of the arbiters' scheduled jobs, so that at the end their lists
say what was enqueued, and how often.
"""
