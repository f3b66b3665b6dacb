<?php
// TLS: with and without a certificate of the client's own.

declare(strict_types=1);

require_once __DIR__ . '/support.php';

use PhpAmqpLib\Connection\AMQPConnectionConfig as Config;
use PhpAmqpLib\Connection\AMQPConnectionFactory;
use PhpAmqpLib\Connection\AMQPSSLConnection;
use PhpAmqpLib\Exception\AMQPExceptionInterface;

function alive($connection): void
{
    $channel = $connection->channel();
    $queue = declared($channel, Scene::queue('tls'));
    $body = random_bytes(1_000_000);
    publish($channel, '', $queue, $body);
    equal((new Inbox($channel, $queue, true))->next()->getBody() === $body, true, 'a large body');
    $connection->close();
}

run(function () {
    if (!getenv('AMQPS_URL')) {
        echo "this broker has no TLS listener to test\n";
        return;
    }
    $directory = getenv('AMQP_TLS_DIR');
    $over = function (?string $own = null) use ($directory) {
        $config = address('AMQPS_URL');
        $config->setIsSecure(true);
        $config->setNetworkProtocol('tls');
        $config->setSslVerify(true);
        $config->setSslVerifyName(true);
        $config->setSslCaCert("$directory/ca.pem");
        if ($own !== null) {
            $config->setSslCert("$directory/$own.pem");
            $config->setSslKey("$directory/$own.key");
        }
        return AMQPConnectionFactory::create($config);
    };
    alive($over());
    alive($over('guest'));
    try {
        alive($over('stranger'));
        throw new Exception('the broker trusts a stranger');
    } catch (AMQPExceptionInterface | ErrorException $refused) {
    }
});
