<?php
// Topology, confirms and returns, bodies and headers of all sorts, dead letters, time to live, priorities, transactions.

declare(strict_types=1);

require_once __DIR__ . '/support.php';

use PhpAmqpLib\Message\AMQPMessage;
use PhpAmqpLib\Wire\AMQPDecimal;
use PhpAmqpLib\Wire\AMQPTable;

function topology($connection): void
{
    $channel = $connection->channel();
    $bindings = ['direct' => ['key', []], 'topic' => ['a.*.#', []], 'fanout' => ['', []], 'headers' => ['', ['x-match' => 'all', 'type' => 'report']]];
    $exchanges = $queues = [];
    foreach ($bindings as $kind => [$key, $arguments]) {
        $exchanges[$kind] = Scene::exchange($kind);
        $queues[$kind] = declared($channel, Scene::queue($kind));
        $channel->exchange_declare($exchanges[$kind], $kind, false, true, false);
        $channel->queue_bind($queues[$kind], $exchanges[$kind], $key, false, new AMQPTable($arguments));
    }
    foreach (['key', 'other'] as $key) {
        publish($channel, $exchanges['direct'], $key, $key);
    }
    foreach (['a.b', 'a.b.c.d', 'a', 'b.a'] as $key) {
        publish($channel, $exchanges['topic'], $key, $key);
    }
    publish($channel, $exchanges['fanout'], 'any', 'to all');
    foreach (['report', 'note'] as $type) {
        publish($channel, $exchanges['headers'], '', $type, ['application_headers' => new AMQPTable(['type' => $type])]);
    }
    foreach (['direct' => ['key'], 'topic' => ['a.b', 'a.b.c.d'], 'fanout' => ['to all'], 'headers' => ['report']] as $kind => $expected) {
        waitForReady($channel, $queues[$kind], count($expected));
        equal(bodies(drain($channel, $queues[$kind])), $expected, $kind);
    }
    $channel->exchange_bind($exchanges['fanout'], $exchanges['direct'], 'both');
    publish($channel, $exchanges['direct'], 'both', 'through two');
    waitForReady($channel, $queues['fanout'], 1);
    $channel->exchange_unbind($exchanges['fanout'], $exchanges['direct'], 'both');
    $channel->queue_unbind($queues['direct'], $exchanges['direct'], 'key');
    publish($channel, $exchanges['direct'], 'both', 'lost');
    publish($channel, $exchanges['direct'], 'key', 'lost');
    equal([count(drain($channel, $queues['fanout'])), count(drain($channel, $queues['direct']))], [1, 0]);

    [$named] = $channel->queue_declare('', false, false, true, true);
    contains($named, 'amq.gen-');
    $arguments = ['x-max-length' => 3, 'x-message-ttl' => 60_000, 'x-expires' => 60_000];
    $limited = declared($channel, Scene::queue('limited'), $arguments);
    for ($number = 1; $number <= 4; ++$number) {
        publish($channel, '', $limited, "$number");
    }
    waitForReady($channel, $limited, 3);
    equal((int) $channel->queue_purge($limited), 3);
    publish($channel, '', declared($channel, Scene::queue('quorum'), ['x-queue-type' => 'quorum']), 'x', ['delivery_mode' => 2]);
    refused($connection, 404, 'NOT_FOUND - no queue', fn ($other) => $other->queue_declare(Scene::queue('missing'), true));
    refused($connection, 406, "inequivalent arg 'x-max-length'", fn ($other) => declared($other, $limited, ['x-max-length' => 4] + $arguments));
    refused($connection, 406, "inequivalent arg 'type'", fn ($other) => $other->exchange_declare($exchanges['direct'], 'fanout', false, true, false));
    refused($connection, 403, 'reserved prefix', fn ($other) => $other->queue_declare('amq.compat'));
    $channel->queue_delete($limited, true, true);
}

function publishing($connection): void
{
    $channel = $connection->channel();
    $queue = declared($channel, Scene::queue('confirms'));
    $acked = $nacked = $returned = [];
    $channel->set_ack_handler(function ($message) use (&$acked) {
        $acked[] = $message->getBody();
    });
    $channel->set_nack_handler(function ($message) use (&$nacked) {
        $nacked[] = $message->getBody();
    });
    $channel->set_return_listener(function ($code, $text, $exchange, $key, $message) use (&$returned) {
        $returned[] = [$code, $text, $exchange, $key, $message->getBody()];
    });
    $channel->confirm_select();
    for ($number = 1; $number <= 1000; ++$number) {
        publish($channel, '', $queue, "$number", ['delivery_mode' => AMQPMessage::DELIVERY_MODE_PERSISTENT]);
    }
    $channel->wait_for_pending_acks(PATIENCE_SECONDS);
    equal($channel->queue_declare($queue, true)[1], 1000, 'what is confirmed is in the queue');
    sort($acked, SORT_NUMERIC);
    equal($acked, array_map('strval', range(1, 1000)));
    equal(bodies(drain($channel, $queue)), $acked);
    for ($number = 1; $number <= 10; ++$number) {
        $channel->batch_basic_publish(new AMQPMessage("batch $number"), '', $queue);
    }
    $channel->publish_batch();
    $channel->wait_for_pending_acks(PATIENCE_SECONDS);
    equal(count(drain($channel, $queue)), 10);

    $exchange = Scene::exchange('returns');
    $channel->exchange_declare($exchange, 'direct', false, true, false);
    $acked = [];
    $channel->basic_publish(new AMQPMessage('lost'), $exchange, 'unknown', true);
    $channel->wait_for_pending_acks_returns(PATIENCE_SECONDS);
    equal($returned, [[312, 'NO_ROUTE', $exchange, 'unknown', 'lost']]);
    equal($acked, ['lost'], 'confirmed nevertheless');

    $full = declared($channel, Scene::queue('full'), ['x-max-length' => 1, 'x-overflow' => 'reject-publish']);
    publish($channel, '', $full, 'taken');
    publish($channel, '', $full, 'refused');
    $channel->wait_for_pending_acks(PATIENCE_SECONDS);
    equal($nacked, ['refused']);

    $other = $connection->channel();
    $other->tx_select();
    publish($other, '', $queue, 'rolled back');
    $other->tx_rollback();
    publish($other, '', $queue, 'committed');
    $other->tx_commit();
    equal(bodies(drain($other, $queue)), ['committed']);
    refused($connection, 404, 'NOT_FOUND - no exchange', function ($other) {
        publish($other, Scene::exchange('missing'), '', 'x');
        $other->wait(null, false, PATIENCE_SECONDS);
    });
}

function contents($connection): void
{
    $channel = $connection->channel();
    $queue = declared($channel, Scene::queue('contents'));
    $inbox = new Inbox($channel, $queue, true);
    foreach ([0, 1, 131_063, 131_064, 131_065, 1 << 20, (int) (getenv('COMPAT_LARGE_BYTES') ?: 64 << 20)] as $size) {
        $body = $size === 0 ? '' : random_bytes($size);
        publish($channel, '', $queue, $body, ['delivery_mode' => 2]);
        equal($inbox->next()->getBody() === $body, true, "$size octets come out as they went in");
    }
    $headers = [
        'string' => 'Häsin 兎', 'empty' => '', 'long' => str_repeat('x', 10_000), 'true' => true, 'false' => false,
        'int' => -(2 ** 31), 'long int' => -(2 ** 53), 'void' => null,
        'list' => ['a', 1, true, null, [2, [3]], ['deep' => 'er']], 'table' => ['a' => ['b' => ['c' => 1]]],
    ];
    $table = new AMQPTable($headers);
    $table->set('byte', -128, AMQPTable::T_INT_SHORTSHORT);
    $table->set('short', -32768, AMQPTable::T_INT_SHORT);
    $table->set('unsigned', 4_294_967_295, AMQPTable::T_INT_LONG_U);
    $table->set('time', new DateTime('@1700000000'));
    $table->set('decimal', new AMQPDecimal(12345, 2));
    $table->set('bytes', "\xff\xce\x00", AMQPTable::T_BYTES);
    $properties = [
        'content_type' => 'application/json', 'content_encoding' => 'identity', 'delivery_mode' => 2, 'priority' => 7,
        'correlation_id' => 'correlation', 'reply_to' => 'answers', 'expiration' => '600000', 'message_id' => 'message',
        'timestamp' => 1_700_000_000, 'type' => 'order.created', 'user_id' => address()->getUser(), 'app_id' => 'compat', 'cluster_id' => 'cluster',
    ];
    publish($channel, '', $queue, 'x', $properties + ['application_headers' => $table]);
    $message = $inbox->next();
    foreach ($properties as $name => $value) {
        equal($message->get($name), $value, $name);
    }
    $received = $message->get('application_headers')->getNativeData();
    foreach ($headers + ['byte' => -128, 'short' => -32768, 'unsigned' => 4_294_967_295, 'bytes' => "\xff\xce\x00"] as $name => $value) {
        equal($received[$name], $value, $name);
    }
    equal($received['time']->getTimestamp(), 1_700_000_000);
    equal([$received['decimal']->getN(), $received['decimal']->getE()], [12345, 2]);
}

function deadLetters($connection): void
{
    $channel = $connection->channel();
    $exchange = Scene::exchange('dead');
    $channel->exchange_declare($exchange, 'fanout', false, true, false);
    $dead = declared($channel, Scene::queue('dead'));
    $channel->queue_bind($dead, $exchange);
    $letters = new Inbox($channel, $dead, true);
    $toDead = ['x-dead-letter-exchange' => $exchange, 'x-dead-letter-routing-key' => 'died'];
    $work = declared($channel, Scene::queue('work'), $toDead);
    $short = declared($channel, Scene::queue('short'), $toDead + ['x-message-ttl' => 100]);
    $small = declared($channel, Scene::queue('small'), $toDead + ['x-max-length' => 1]);
    $died = function (string $body, string $queue, string $reason) use ($letters) {
        $letter = $letters->next();
        $death = $letter->get('application_headers')->getNativeData()['x-death'][0];
        equal([$letter->getBody(), $letter->getRoutingKey(), $death['queue'], $death['reason'], $death['count']], [$body, 'died', $queue, $reason, 1]);
    };
    publish($channel, '', $short, 'by the queue');
    $died('by the queue', $short, 'expired');
    publish($channel, '', $work, 'by itself', ['expiration' => '100']);
    $died('by itself', $work, 'expired');
    publish($channel, '', $small, 'pushed out');
    publish($channel, '', $small, 'stays');
    $died('pushed out', $small, 'maxlen');
    publish($channel, '', $work, 'rejected');
    (new Inbox($channel, $work))->next()->reject(false);
    $died('rejected', $work, 'rejected');

    $ordered = declared($channel, Scene::queue('ordered'), ['x-max-priority' => 5]);
    foreach ([0, 5, 2, 5, 1] as $number => $priority) {
        publish($channel, '', $ordered, "$number", ['priority' => $priority]);
    }
    waitForReady($channel, $ordered, 5);
    equal(bodies(drain($channel, $ordered)), ['1', '3', '2', '4', '0']);
}

run(function () {
    foreach (['topology', 'publishing', 'contents', 'deadLetters'] as $flow) {
        $connection = connect();
        $flow($connection);
        $connection->close();
    }
});
