import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import org.springframework.amqp.core.Queue;
import org.springframework.amqp.rabbit.AsyncRabbitTemplate;
import org.springframework.amqp.rabbit.connection.CachingConnectionFactory;
import org.springframework.amqp.rabbit.core.RabbitAdmin;
import org.springframework.amqp.rabbit.core.RabbitTemplate;
import org.springframework.amqp.rabbit.listener.DirectMessageListenerContainer;
import org.springframework.amqp.rabbit.listener.SimpleMessageListenerContainer;
import org.springframework.amqp.rabbit.listener.adapter.MessageListenerAdapter;

/** Requests and replies: direct reply-to by container and by channel, temporary queues, a reply queue, asynchronous. */
final class RequestReply {
    public static void main(String[] args) {
        Support.run(() -> {
            CachingConnectionFactory connections = Support.connections();
            RabbitAdmin admin = new RabbitAdmin(connections);
            String requests = Support.uniqueQueue("requests");
            admin.declareQueue(new Queue(requests, false));
            SimpleMessageListenerContainer server = new SimpleMessageListenerContainer(connections);
            server.setQueueNames(requests);
            server.setConcurrentConsumers(3);
            server.setMessageListener(new MessageListenerAdapter(new Object() {
                @SuppressWarnings("unused")
                public String handleMessage(String request) {
                    return request.toUpperCase();
                }
            }));
            server.start();
            Support.closeLater(server::stop);

            RabbitTemplate direct = new RabbitTemplate(connections);
            ask(direct, requests, "direct reply-to with a container");
            direct.stop();

            RabbitTemplate byChannel = new RabbitTemplate(connections);
            byChannel.setUseDirectReplyToContainer(false);
            ask(byChannel, requests, "direct reply-to with a channel a request");

            RabbitTemplate temporary = new RabbitTemplate(connections);
            temporary.setUseTemporaryReplyQueues(true);
            ask(temporary, requests, "temporary reply queues");

            String replies = Support.uniqueQueue("replies");
            admin.declareQueue(new Queue(replies, false));
            RabbitTemplate fixed = new RabbitTemplate(connections);
            fixed.setReplyAddress(replies);
            fixed.setReplyTimeout(Support.PATIENCE.toMillis());
            SimpleMessageListenerContainer listener = new SimpleMessageListenerContainer(connections);
            listener.setQueueNames(replies);
            listener.setMessageListener(fixed);
            listener.start();
            Support.closeLater(listener::stop);
            ask(fixed, requests, "a reply queue");

            AsyncRabbitTemplate async = new AsyncRabbitTemplate(connections, "", requests);
            async.start();
            Support.closeLater(async::stop);
            List<CompletableFuture<String>> futures = new ArrayList<>();
            for (int number = 0; number < 50; number++) {
                futures.add(async.convertSendAndReceive("async " + number));
            }
            for (int number = 0; number < 50; number++) {
                Support.equal(futures.get(number).get(30, TimeUnit.SECONDS), "ASYNC " + number, "an asynchronous reply");
            }

            // Nobody answers: the template gives up, and works again afterwards.
            String silent = Support.uniqueQueue("silent");
            admin.declareQueue(new Queue(silent, false));
            RabbitTemplate impatient = new RabbitTemplate(connections);
            impatient.setReplyTimeout(200);
            Support.equal(impatient.convertSendAndReceive(silent, "anybody?"), null, "no reply");
            impatient.setReplyTimeout(Support.PATIENCE.toMillis());
            Support.equal(impatient.convertSendAndReceive(requests, "again"), "AGAIN", "a reply after a timeout");
            impatient.stop();
        });
    }

    private static void ask(RabbitTemplate template, String requests, String what) throws Exception {
        template.setReplyTimeout(Support.PATIENCE.toMillis());
        ExecutorService threads = Executors.newFixedThreadPool(4);
        List<Future<Object>> replies = new ArrayList<>();
        for (int number = 0; number < 40; number++) {
            String request = "request " + number;
            replies.add(threads.submit(() -> template.convertSendAndReceive(requests, (Object) request)));
        }
        for (int number = 0; number < 40; number++) {
            Support.equal(replies.get(number).get(), "REQUEST " + number, what);
        }
        threads.shutdown();
    }
}
