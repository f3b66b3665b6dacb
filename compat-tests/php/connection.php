<?php
// Connections: every option of AMQPConnectionConfig that a broker sees, both kinds of sockets, heartbeats, many channels, closing.

declare(strict_types=1);

require_once __DIR__ . '/support.php';

use PhpAmqpLib\Connection\AMQPConnectionConfig as Config;
use PhpAmqpLib\Connection\AMQPConnectionFactory;
use PhpAmqpLib\Connection\AMQPLazyConnection;
use PhpAmqpLib\Connection\AMQPStreamConnection;
use PhpAmqpLib\Connection\Heartbeat\PCNTLHeartbeatSender;
use PhpAmqpLib\Exception\AMQPConnectionClosedException;

function alive($connection): void
{
    $channel = $connection->channel();
    $queue = declared($channel, Scene::queue('alive'));
    $body = random_bytes(1_000_000);
    publish($channel, '', $queue, $body);
    $inbox = new Inbox($channel, $queue, true);
    equal($inbox->next()->getBody() === $body, true, 'a large body');
    $channel->close();
}

function login(): void
{
    foreach (
        [
            [fn ($config) => $config->setPassword('not the password'), 403, 'ACCESS_REFUSED - Login was refused'],
            [fn ($config) => $config->setVhost('no-such-vhost'), 530, 'vhost no-such-vhost not found'],
        ] as [$change, $code, $text]
    ) {
        try {
            connect($change);
            throw new Exception("expected $text");
        } catch (AMQPConnectionClosedException $error) {
            equal($error->getCode(), $code);
            contains($error->getMessage(), $text);
        }
    }
    foreach ([Config::AUTH_PLAIN, Config::AUTH_AMQPPLAIN] as $method) {
        foreach ([Config::IO_TYPE_STREAM, Config::IO_TYPE_SOCKET] as $type) {
            $connection = connect(function ($config) use ($method, $type) {
                $config->setLoginMethod($method);
                $config->setIoType($type);
                $config->setConnectionName('compat');
                $config->setConnectionTimeout(5.0);
                $config->setKeepalive(true);
                $config->setLocale('en_US');
                $config->setSendBufferSize(65536);
            });
            $properties = $connection->getServerProperties();
            equal((bool) $properties['capabilities'][1]['publisher_confirms'][1], true);
            alive($connection);
            $connection->close();
            equal($connection->isConnected(), false);
        }
    }
}

function kindsOfConnections(): void
{
    $address = address();
    $own = [$address->getHost(), $address->getPort(), $address->getUser(), $address->getPassword(), $address->getVhost()];
    $lazy = new AMQPLazyConnection(...$own);
    equal($lazy->isConnected(), false);
    alive($lazy);
    $lazy->reconnect();
    alive($lazy);
    $lazy->close();

    // The first host is not there.
    $hosts = [['host' => '127.0.0.1', 'port' => 1], ['host' => $own[0], 'port' => $own[1]]];
    foreach ($hosts as &$host) {
        $host += ['user' => $own[2], 'password' => $own[3], 'vhost' => $own[4]];
    }
    $connection = AMQPStreamConnection::create_connection($hosts, ['connection_timeout' => 2]);
    alive($connection);
    $connection->close();
    $copy = clone $connection; // This connects once more.
    alive($copy);
    $copy->close();
    $lazy = connect(fn ($config) => $config->setIsLazy(true));
    alive($lazy);
    $lazy->close();
}

function heartbeats(): void
{
    $connection = connect(fn ($config) => $config->setHeartbeat(1));
    equal($connection->getHeartbeat(), 1);
    $sender = new PCNTLHeartbeatSender($connection);
    $sender->register();
    $until = microtime(true) + 3.5;
    while (microtime(true) < $until) { // The broker would have given up by then without the heartbeats.
        usleep(100_000);
    }
    $sender->unregister();
    alive($connection);
    $connection->close();
    pcntl_alarm(TIME_LIMIT_SECONDS); // The sender used the program's alarm.
}

function manyChannels(): void
{
    $connection = connect();
    $queue = declared($connection->channel(), Scene::queue('many-channels'));
    for ($round = 0; $round < 2; ++$round) {
        $channels = [];
        for ($number = 0; $number < 100; ++$number) {
            $channels[] = $connection->channel();
        }
        foreach ($channels as $channel) {
            publish($channel, '', $queue, 'x');
            $channel->close();
        }
    }
    equal(count(drain($connection->channel(), $queue)), 200);
    $connection->close(); // With a channel still open.
}

run(function () {
    login();
    kindsOfConnections();
    heartbeats();
    manyChannels();
});
