# Starting and stopping one broker for a test or a measurement: Apache Kafka (with a ZooKeeper of its own) or Ottla.
# Sourced after lib.sh. Everything of a broker lives in one folder: server.properties, data, logs, pids, ports; so a
# broker can be stopped, killed and started again. Only the processes started here are ever signalled.
# shellcheck shell=bash

OTTLA_BIN=${OTTLA_BIN:-$TARGET/release/ottla}

# broker_prepare KIND DIR [KEY=VALUE...]: writes the properties of a broker that is to run in DIR, on free ports.
broker_prepare() {
    local kind=$1 dir=$2 port zookeeper_port override
    shift 2
    need python3 python3
    read -r port zookeeper_port < <(python3 "$ROOT/scripts/probe.py" ports 2)
    mkdir -p "$dir"
    printf '%s\n' "$kind" >"$dir/kind"
    printf 'localhost:%s\n' "$port" >"$dir/bootstrap"
    printf 'localhost:%s\n' "$zookeeper_port" >"$dir/zookeeper-address"
    {
        echo "broker.id=0"
        echo "listeners=PLAINTEXT://localhost:$port"
        echo "log.dirs=$dir/logs"
        echo "offsets.topic.replication.factor=1"
        echo "transaction.state.log.replication.factor=1"
        echo "transaction.state.log.min.isr=1"
        echo "group.initial.rebalance.delay.ms=0"
        echo "group.min.session.timeout.ms=1000"
        case $kind in
            kafka) echo "zookeeper.connect=localhost:$zookeeper_port" ;;
            ottla)
                echo "zookeeper.embedded.port=$zookeeper_port"
                echo "zookeeper.embedded.data.dir=$dir/zookeeper"
                ;;
            *) die "no broker named $kind (kafka or ottla)" ;;
        esac
        for override in "$@"; do echo "$override"; done
    } >"$dir/server.properties"
    printf 'dataDir=%s\nclientPort=%s\nclientPortAddress=localhost\ntickTime=2000\nmaxClientCnxns=0\nadmin.enableServer=false\n4lw.commands.whitelist=*\n' \
        "$dir/zookeeper" "$zookeeper_port" >"$dir/zookeeper.properties"
}

# broker_launch DIR: starts the processes of a prepared broker and returns at once.
broker_launch() {
    local dir=$1
    case $(cat "$dir/kind") in
        kafka)
            if [ ! -e "$dir/zookeeper.pid" ]; then
                "$ROOT/scripts/kafka" zookeeper-server-start "$dir/zookeeper.properties" </dev/null >>"$dir/zookeeper.log" 2>&1 &
                echo $! >"$dir/zookeeper.pid"
                broker_await_port "$(cat "$dir/zookeeper-address")" 60 || broker_fail "$dir" "ZooKeeper did not start"
            fi
            "$ROOT/scripts/kafka" kafka-server-start "$dir/server.properties" </dev/null >>"$dir/broker.log" 2>&1 &
            ;;
        ottla)
            [ -x "$OTTLA_BIN" ] || die "$OTTLA_BIN is missing: cargo build --release"
            "$OTTLA_BIN" "$dir/server.properties" </dev/null >>"$dir/broker.log" 2>&1 &
            ;;
    esac
    echo $! >"$dir/broker.pid"
}

# broker_start KIND DIR [KEY=VALUE...]: prepares, starts, waits until it answers; exports BROKER, BROKER_DIR, BOOTSTRAP, ZOOKEEPER.
broker_start() {
    local kind=$1 dir=$2
    [ "$kind" != kafka ] || kafka_libs
    broker_prepare "$@"
    broker_again "$dir"
}

# broker_again DIR: starts a stopped or killed broker once more, on the same data and ports.
broker_again() {
    BROKER_DIR=$1
    BROKER=$(cat "$BROKER_DIR/kind")
    BOOTSTRAP=$(cat "$BROKER_DIR/bootstrap")
    ZOOKEEPER=$(cat "$BROKER_DIR/zookeeper-address")
    export BROKER BROKER_DIR BOOTSTRAP ZOOKEEPER
    broker_launch "$BROKER_DIR"
    python3 "$ROOT/scripts/probe.py" "$BOOTSTRAP" 90 >/dev/null || broker_fail "$BROKER_DIR" "the broker does not answer"
}

broker_await_port() {
    local address=$1 tries=$(($2 * 10))
    while ! (exec 3<>"/dev/tcp/${address%:*}/${address##*:}") 2>/dev/null; do
        [ $((tries -= 1)) -gt 0 ] || return 1
        sleep 0.1
    done
}

broker_fail() {
    say "--- the end of $1/broker.log:"
    tail -n 40 "$1/broker.log" "$1/zookeeper.log" >&2 2>/dev/null || true
    broker_stop "$1"
    die "$2"
}

# stop_process PIDFILE [SIGNAL]: signals the process, waits for its end (30 s, then KILL), removes the file.
stop_process() {
    local file=$1 signal=${2:-TERM} pid
    [ -e "$file" ] || return 0
    pid=$(cat "$file")
    if kill "-$signal" "$pid" 2>/dev/null; then
        timeout 30 tail --pid="$pid" -f /dev/null || kill -KILL "$pid" 2>/dev/null || true
    fi
    wait "$pid" 2>/dev/null || true
    rm -f "$file"
}

# broker_kill DIR: ends the broker alone, at once (its ZooKeeper goes on).
broker_kill() { stop_process "$1/broker.pid" KILL; }

# broker_stop DIR: clean stop of the broker, then of its ZooKeeper.
broker_stop() {
    stop_process "$1/broker.pid" TERM
    stop_process "$1/zookeeper.pid" TERM
}
