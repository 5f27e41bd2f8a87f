"""Whose events wait in Gradio's queue, which all pages and programs share: who is before a visitor there."""

import gradio as gr


def waiting_clients(page: gr.Blocks, place: str | None = None) -> list[str]:
    """The client of each event that waits for its turn: of those that share one number of turns, `place` by Gradio's
    `concurrency_id`, or of all."""
    queues = page._queue.event_queue_per_concurrency_id
    among = queues.values() if place is None else [queues[place]] if place in queues else []
    return [
        getattr(getattr(event.request, "client", None), "host", "") for queue in among for event in list(queue.queue)
    ]
