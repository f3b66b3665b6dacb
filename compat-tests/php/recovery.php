<?php
// A broker that is short of memory, and one that restarts: the client's reconnect, as its documentation has it.

declare(strict_types=1);

require_once __DIR__ . '/support.php';

use PhpAmqpLib\Exception\AMQPConnectionBlockedException;
use PhpAmqpLib\Exception\AMQPExceptionInterface;

function blocked(): void
{
    $connection = connect();
    $channel = $connection->channel();
    $queue = declared($channel, Scene::queue('blocked'));
    $told = [];
    $connection->set_connection_block_handler(function ($reason) use (&$told) {
        $told[] = $reason;
    });
    $connection->set_connection_unblock_handler(function () use (&$told) {
        $told[] = 'unblocked';
    });
    fromRunner('BROKER_CTL', 'set_vm_memory_high_watermark', 'absolute', '1000000');
    try {
        publish($channel, '', $queue, 'held back');
        waitUntil('the notice', function () use ($channel, &$told) {
            listen($channel);
            return $told !== [];
        });
        contains($told[0], 'low on memory');
        equal($connection->isBlocked(), true);
        try {
            publish($channel, '', $queue, 'not sent at all');
            throw new Exception('the client publishes while it is blocked');
        } catch (AMQPConnectionBlockedException $error) {
        }
    } finally {
        fromRunner('BROKER_CTL', 'set_vm_memory_high_watermark', '0.6');
    }
    waitUntil('the end of it', function () use ($channel, &$told) {
        listen($channel);
        return count($told) === 2;
    });
    waitForReady($channel, $queue, 1);
    equal(bodies(drain($channel, $queue)), ['held back']);
    $connection->close();
}

function restarted(): void
{
    $connection = connect();
    $channel = $connection->channel();
    $queue = declared($channel, Scene::queue('restart'));
    $channel->confirm_select();
    publish($channel, '', $queue, 'before', ['delivery_mode' => 2]);
    $channel->wait_for_pending_acks(PATIENCE_SECONDS);
    $inbox = new Inbox($channel, $queue);
    equal($inbox->next()->getBody(), 'before');
    fromRunner('BROKER_RESTART');
    try {
        while (true) {
            $channel->wait(null, false, PATIENCE_SECONDS);
        }
    } catch (AMQPExceptionInterface $lost) {
    }
    waitUntil('the connection is there again', function () use ($connection) {
        try {
            $connection->reconnect();
            return $connection->isConnected();
        } catch (AMQPExceptionInterface | ErrorException $notYet) {
            return false;
        }
    });
    $inbox = new Inbox($connection->channel(), $queue);
    $message = $inbox->next();
    equal([$message->getBody(), $message->isRedelivered()], ['before', true], 'what was confirmed outlives the restart');
    $message->ack();
    $connection->close();
}

run(function () {
    if (!getenv('BROKER_CTL') || !getenv('BROKER_RESTART')) {
        echo "this broker cannot be restarted or short of memory from here\n";
        return;
    }
    blocked();
    restarted();
});
