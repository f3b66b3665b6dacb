"""TLS: a message over either version, and a client that logs in with its certificate (EXTERNAL)."""

import os
import ssl

import pika
from pika.exceptions import AMQPConnectionError

from support import drain, equal, run, unique_queue

URL = os.environ.get("AMQPS_URL")
DIR = os.environ.get("AMQP_TLS_DIR")


def context(version=None, certificate=None):
    context = ssl.create_default_context(cafile=f"{DIR}/ca.pem")
    if version is not None:
        context.minimum_version = context.maximum_version = version
    if certificate is not None:
        context.load_cert_chain(f"{DIR}/{certificate}.pem", f"{DIR}/{certificate}.key")
    return context


def connect(tls, credentials=None):
    address = pika.URLParameters(URL)
    return pika.BlockingConnection(
        pika.ConnectionParameters(
            host=address.host,
            port=address.port,
            ssl_options=pika.SSLOptions(tls, address.host),
            **({} if credentials is None else {"credentials": credentials}),
        )
    )


def check_alive(connection):
    channel = connection.channel()
    queue = unique_queue("tls")
    channel.queue_declare(queue)
    body = b"x" * 1_000_000
    channel.basic_publish("", queue, body)
    (message,) = drain(channel, queue)
    equal(message.body == body, True, "a large body")
    connection.close()


def main():
    if URL is None:
        print("this broker has no TLS listener to test")
        return
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        check_alive(connect(context(version)))
    external = pika.credentials.ExternalCredentials()
    check_alive(connect(context(certificate="guest"), external))
    # A certificate of an authority that the broker does not trust, and none at all.
    for certificate in ("stranger", None):
        try:
            connect(context(certificate=certificate), external)
        except (AMQPConnectionError, ssl.SSLError, ConnectionError):
            continue
        raise AssertionError(f"logged in with {certificate}")


run(main)
