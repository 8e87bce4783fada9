"""A step of every worker on RabbitMQ; loaded by workers only, as it brings Celery's consumer with it."""

from celery import bootsteps
from celery.worker.consumer import Consumer
from celery.worker.consumer.connection import Connection
from celery.worker.consumer.delayed_delivery import DelayedDelivery
from celery.worker.consumer.tasks import Tasks


class DeclareQueues(bootsteps.StartStopStep):
    """Declares every queue whenever a worker connects, not only those that it takes from.

    Celery then binds them all to what counts down for RabbitMQ, and calls each that is missing a failure.
    """

    requires = (Connection,)

    def include_if(self, parent: Consumer) -> bool:
        """Leave Redis alone: a list there begins with its first message."""
        return str(parent.app.conf.broker_url).startswith("amqp")

    def start(self, parent: Consumer) -> None:
        """Declare them on the connection that has just been made."""
        with parent.connection.channel() as channel:  # type: ignore[union-attr]  # the step Connection made it
            for queue in parent.app.amqp.queues.values():
                queue(channel).declare()


DelayedDelivery.requires = (Tasks, DeclareQueues)  # what binds the queues
