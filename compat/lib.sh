# Shared by the run scripts of this folder. Sourced with `here` = the client's folder.
# shellcheck shell=bash
source "$(dirname "${BASH_SOURCE[0]}")/../scripts/lib.sh"

# setup_only: true when the run script was called as `run setup`, to prepare without a broker.
setup_only() { [ "${1:-}" = setup ]; }

# python_venv NAME: a virtual environment with the pinned packages of compat/NAME/requirements.txt; prints its python.
python_venv() {
    local venv=$TARGET/compat/$1/venv requirements=$ROOT/compat/$1/requirements.txt stamp
    stamp=$venv/.complete-$(cksum <"$requirements" | cut -d' ' -f1)
    need python3 python3
    python3 -c 'import ensurepip' 2>/dev/null || apt_install python3-venv
    if [ ! -e "$stamp" ]; then
        rm -rf "$venv"
        mkdir -p "${venv%/*}"
        python3 -m venv "$venv" >&2 || die "python3 -m venv failed (Debian: python3-venv)"
        "$venv/bin/pip" install -q --disable-pip-version-check -r "$requirements" >&2
        touch "$stamp"
    fi
    echo "$venv/bin/python"
}

# go_program NAME: builds compat/NAME with its pinned modules; prints the program.
go_program() {
    need go golang-go
    mkdir -p "$TARGET/compat/bin"
    (cd "$ROOT/compat/$1" && go build -mod=readonly -o "$TARGET/compat/bin/$1" .) >&2 ||
        die "go build failed for $1 (its go.mod names the version of Go that it needs)"
    echo "$TARGET/compat/bin/$1"
}

# apps_libs: Kafka Streams, Connect and MirrorMaker 2 of the reference, in $APPS_LIBS; safe when several ask at once.
APPS_LIBS=$TARGET/compat/apps/libs
apps_libs() {
    local pom=$ROOT/compat/apps-jars/pom.xml stamp
    stamp=$TARGET/compat/apps/.complete-$(cksum <"$pom" | cut -d' ' -f1)
    [ -e "$stamp" ] && return 0
    need java default-jre-headless
    need mvn maven
    mkdir -p "$TARGET/compat/apps"
    (
        flock 9
        [ -e "$stamp" ] && exit 0
        rm -rf "$APPS_LIBS"
        mvn -q -B -f "$pom" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$APPS_LIBS" \
            </dev/null >"$TARGET/compat/apps/fetch.log" 2>&1 || { cat "$TARGET/compat/apps/fetch.log" >&2; exit 1; }
        touch "$stamp"
    ) 9>"$TARGET/compat/apps/.lock" || die "the jars of Streams, Connect and MirrorMaker could not be fetched"
}

# app CLASSPATH CLASS ARGS...: a small JVM in place of this shell; its log goes to stderr.
app() {
    local classpath=$1
    shift
    exec java -Xmx192m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:-UsePerfData -Xshare:auto \
        -Dlog4j.configuration="file:$ROOT/scripts/kafka-jars/tools-log4j.properties" -cp "$classpath" "$@"
}
