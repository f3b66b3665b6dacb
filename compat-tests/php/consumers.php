<?php
// Consumers: prefetch, acks in all forms, cancelling from both sides, what is refused, and RPC with direct reply-to.

declare(strict_types=1);

require_once __DIR__ . '/support.php';

use PhpAmqpLib\Exception\AMQPBasicCancelException;

function filled($connection, string $name, int $count): array
{
    $channel = $connection->channel();
    $queue = declared($channel, Scene::queue($name));
    for ($number = 1; $number <= $count; ++$number) {
        publish($channel, '', $queue, "$number");
    }
    waitForReady($channel, $queue, $count);
    return [$channel, $queue];
}

function prefetching($connection): void
{
    [$channel, $queue] = filled($connection, 'prefetch', 10);
    $channel->basic_qos(0, 2, false);
    $first = new Inbox($channel, $queue);
    $channel->basic_qos(0, 3, false);
    $second = new Inbox($channel, $queue); // The first one keeps its limit.
    $early = $first->take(2);
    $others = $second->take(3);
    waitForReady($channel, $queue, 5);
    equal([bodies($early), bodies($others)], [['1', '2'], ['3', '4', '5']]);
    $early[1]->ack();
    equal($first->next()->getBody(), '6');
    $others[2]->ack(true); // All up to this one, of both consumers.
    $first->next();
    $second->take(3);
    waitForReady($channel, $queue, 0);

    [$channel, $queue] = filled($connection, 'prefetch-global', 6);
    $shared = $connection->channel();
    $shared->basic_qos(0, 3, true);
    $inboxes = [new Inbox($shared, $queue), new Inbox($shared, $queue)];
    waitForReady($channel, $queue, 3);
    $shared->close();
    waitForReady($channel, $queue, 6); // What was not acknowledged is back.
}

function settling($connection): void
{
    [$channel, $queue] = filled($connection, 'settling', 6);
    $other = $connection->channel();
    $inbox = new Inbox($other, $queue);
    $messages = $inbox->take(6);
    $messages[1]->ack();
    $messages[0]->reject(false);
    $messages[3]->reject(true);
    $again = $inbox->next();
    equal([$again->getBody(), $again->isRedelivered(), $again->getDeliveryTag()], ['4', true, 7]);
    $messages[4]->nack(true, true); // 3 and 5
    equal(bodies($inbox->take(2)), ['3', '5']);
    $other->basic_recover(true);
    $recovered = bodies($inbox->take(4));
    sort($recovered);
    equal($recovered, ['3', '4', '5', '6']);
    $other->close();
    waitForReady($channel, $queue, 4); // What a channel leaves behind goes to its old place.
    equal(bodies(drain($channel, $queue)), ['3', '4', '5', '6']);
}

function cancelling($connection): void
{
    [$channel, $queue] = filled($connection, 'cancel', 1);
    $inbox = new Inbox($channel, $queue, false, 'chosen');
    equal($inbox->tag, 'chosen');
    $inbox->next()->ack();
    $channel->basic_cancel('chosen');
    publish($channel, '', $queue, '2');
    waitForReady($channel, $queue, 1);
    equal(count($inbox->messages), 0);

    // The queue goes: its consumer is told.
    drain($channel, $queue);
    $orphan = new Inbox($channel, $queue);
    $connection->channel()->queue_delete($queue);
    try {
        $channel->wait(null, false, PATIENCE_SECONDS);
        throw new Exception('the consumer was not told');
    } catch (AMQPBasicCancelException $cancelled) {
        equal($cancelled->consumerTag, $orphan->tag);
    }

    // Consumers with priorities: the important one first.
    [$channel, $queue] = filled($connection, 'consumer-priority', 0);
    $low = new Inbox($channel, $queue, true, '', false, ['x-priority' => 1]);
    $high = new Inbox($channel, $queue, true, '', false, ['x-priority' => 10]);
    for ($number = 1; $number <= 5; ++$number) {
        publish($channel, '', $queue, "$number");
    }
    equal(bodies($high->take(5)), ['1', '2', '3', '4', '5']);
    equal(count($low->messages), 0);
}

function refusals($connection): void
{
    [$channel, $queue] = filled($connection, 'refusals', 1);
    new Inbox($channel, $queue, false, '', true);
    refused($connection, 403, 'in exclusive use', fn ($other) => new Inbox($other, $queue));
    refused($connection, 404, 'NOT_FOUND - no queue', fn ($other) => $other->basic_get(Scene::queue('missing')));
    refused($connection, 406, 'unknown delivery tag 17', function ($other) {
        $other->basic_ack(17);
        $other->wait(null, false, PATIENCE_SECONDS);
    });
    $channel->queue_declare($queue, true); // Only the others were closed.
}

function requests($connection): void
{
    $jobs = Scene::queue('jobs');
    $server = $connection->channel();
    declared($server, $jobs);
    $requests = new Inbox($server, $jobs);
    $client = $connection->channel();
    $answers = new Inbox($client, 'amq.rabbitmq.reply-to', true);
    for ($number = 1; $number <= 50; ++$number) {
        publish($client, '', $jobs, "$number", ['reply_to' => 'amq.rabbitmq.reply-to', 'correlation_id' => "c$number"]);
        $request = $requests->next();
        publish($server, '', $request->get('reply_to'), "re: {$request->getBody()}", ['correlation_id' => $request->get('correlation_id')]);
        $request->ack();
        $answer = $answers->next();
        equal([$answer->getBody(), $answer->get('correlation_id')], ["re: $number", "c$number"]);
    }
}

run(function () {
    foreach (['prefetching', 'settling', 'cancelling', 'refusals', 'requests'] as $flow) {
        $connection = connect();
        $flow($connection);
        $connection->close();
    }
});
