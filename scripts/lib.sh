# Shared by the scripts: where things are, and installing what a command needs. Sourced, never run.
# shellcheck shell=bash

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
TARGET=${CARGO_TARGET_DIR:-$ROOT/target}
KAFKA_VERSION=3.9.2
KAFKA_HOME=$TARGET/kafka-$KAFKA_VERSION
KAFKA_LIBS=${OTTLA_KAFKA_LIBS:-$KAFKA_HOME/libs}

say() { printf '%s\n' "$*" >&2; }
die() { say "${0##*/}: $*"; exit 1; }

# apt_install PACKAGE...: installs Debian packages, one caller at a time.
apt_install() {
    command -v apt-get >/dev/null 2>&1 || die "missing, and there is no apt-get to install it (Debian calls it $*)"
    say "installing $*"
    mkdir -p "$TARGET"
    (
        flock 9
        local sudo=()
        [ "$(id -u)" = 0 ] || sudo=(sudo)
        "${sudo[@]}" apt-get update -qq >&2 || true
        "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >&2
    ) 9>"$TARGET/.apt.lock"
    hash -r
}

# need COMMAND PACKAGE...: installs the packages when the command is not on PATH. What is on PATH is used as it is.
need() {
    local command=$1
    shift
    command -v "$command" >/dev/null 2>&1 && return 0
    apt_install "$@"
    command -v "$command" >/dev/null 2>&1 || die "$command is still missing after installing $*"
}

# kafka_libs: makes sure that the jars of the reference are in $KAFKA_LIBS; safe when several scripts ask at once.
kafka_libs() {
    need java default-jre-headless
    [ -z "${OTTLA_KAFKA_LIBS:-}" ] || return 0
    local pom=$ROOT/scripts/kafka-jars/pom.xml stamp
    stamp=$KAFKA_HOME/.complete-$(cksum <"$pom" | cut -d' ' -f1)
    [ -e "$stamp" ] && return 0
    need mvn maven
    mkdir -p "$KAFKA_HOME"
    (
        flock 9
        [ -e "$stamp" ] && exit 0
        say "fetching the jars of Apache Kafka $KAFKA_VERSION (once)"
        rm -rf "$KAFKA_HOME/libs.new"
        mvn -q -B -f "$pom" dependency:copy-dependencies -DincludeScope=runtime \
            -DoutputDirectory="$KAFKA_HOME/libs.new" </dev/null >"$KAFKA_HOME/fetch.log" 2>&1 ||
            { cat "$KAFKA_HOME/fetch.log" >&2; exit 1; }
        rm -rf "$KAFKA_LIBS"
        mv "$KAFKA_HOME/libs.new" "$KAFKA_LIBS"
        touch "$stamp"
    ) 9>"$KAFKA_HOME/.lock" || die "the jars of Apache Kafka could not be fetched"
}
