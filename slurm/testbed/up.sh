#!/usr/bin/env bash
# Bring up a real Slurm cluster on this one machine (Debian 12, as root, no systemd needed).
# Idempotent: installs what is missing, writes the configuration, starts the daemons that do not
# run, and returns once every node is idle. README.md tells what there is; down.sh ends it.
#
#   SLURM_TB          folder of everything         (default /var/lib/slurm-tb)
#   SLURM_TB_GPUS     GPU nodes, one GPU each      (default 8)
#   SLURM_TB_CGROUP   auto, yes, no: limit memory by cgroups; else by polling    (default auto)
#   SLURM_TB_USERSIG  1: preemption sends a job's own --signal; 0: only TERM     (default 1)
#   SLURM_TB_GRACE    seconds between preemption's signal and the kill           (default 15)
#   SLURM_TB_MAX_ARRAY  MaxArraySize                                             (default 10001)
#   SLURM_TB_WAIT     seconds to wait for idle nodes                             (default 60)
#
# Exits 69 when the packages cannot be installed, 1 for any other failure.
set -euo pipefail
# shellcheck source=slurm/testbed/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

gpus=${SLURM_TB_GPUS:-8}
cgroup=${SLURM_TB_CGROUP:-auto}
user_signal=${SLURM_TB_USERSIG:-1}
grace=${SLURM_TB_GRACE:-15}
max_array=${SLURM_TB_MAX_ARRAY:-10001}
patience=${SLURM_TB_WAIT:-60}
packages=(slurmctld slurmd slurm-client slurmdbd munge mariadb-server)
controller_port=16817 accounting_port=16819 database_port=13306 first_node_port=17000
host=$(hostname -s)

# --- the machine ----------------------------------------------------------------------------

is_installed() { [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

install_packages() {
    local missing=() package log policy=/usr/sbin/policy-rc.d own_policy=no installed=no pause
    for package in "${packages[@]}"; do
        is_installed "$package" || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    say "installing ${missing[*]}"
    # The packages must not start daemons of their own. Container images often forbid it already.
    if [ ! -e $policy ]; then
        printf '#!/bin/sh\nexit 101\n' >$policy
        chmod 755 $policy
        own_policy=yes
    fi
    log=$(mktemp)
    for pause in 3 6 0; do # mirrors have their moments
        if apt_install "${missing[@]}" >"$log" 2>&1; then
            installed=yes
            break
        fi
        sleep $pause
    done
    [ $own_policy = no ] || rm -f $policy
    if [ $installed = no ]; then
        tail -n 20 "$log" >&2
        say "ERROR: apt-get could not install ${missing[*]}: this needs Debian 12 and its mirror" >&2
        exit 69
    fi
    rm -f "$log"
}

apt_install() { # package...
    apt-get -q update
    DEBIAN_FRONTEND=noninteractive apt-get -qy -o Dpkg::Options::=--force-confold \
        -o DPkg::Lock::Timeout=120 install --no-install-recommends "$@" 9>&-
}

# Daemons that are told NoInAddrAny bind to what the host's own name resolves to.
name_host() {
    local address
    address=$(getent ahostsv4 "$host" | awk 'NR == 1 {print $1}') || true
    [ "$address" != 127.0.0.1 ] || return 0
    say "adding $host to /etc/hosts"
    # Written over, not replaced: in a container it is a mount.
    local others
    others=$(</etc/hosts)
    printf '127.0.0.1 %s # slurm-testbed\n%s\n' "$host" "$others" >/etc/hosts
}

make_folders() {
    local i
    mkdir -p "$tb"/{etc,log,run,spool,state,munge,dev}
    chmod 755 "$tb" "$tb"/*
    [ -s "$tb/munge/key" ] || head -c 1024 /dev/urandom >"$tb/munge/key"
    chown munge:munge "$tb/munge" "$tb/munge/key"
    chmod 400 "$tb/munge/key"
    if [ ! -s "$tb/etc/database-password" ]; then
        (umask 077 && head -c 18 /dev/urandom | base64 | tr -d '/+=' >"$tb/etc/database-password")
    fi
    # slurmd wants a device file for each GPU. These are /dev/null under other names.
    for ((i = 0; i < gpus; i++)); do
        [ -e "$tb/dev/nvidia$i" ] || mknod -m 666 "$tb/dev/nvidia$i" c 1 3
    done
}

# --- the configuration ----------------------------------------------------------------------

# Memory limits need the cgroup v1 controllers, writable: a container often has them read-only.
find_cgroups() {
    local probe=/sys/fs/cgroup/memory/slurm_testbed_probe.$$
    [ "$cgroup" = auto ] || return 0
    cgroup=no
    if [ -w /sys/fs/cgroup/freezer/cgroup.procs ] && mkdir "$probe" 2>/dev/null; then
        rmdir "$probe"
        cgroup=yes
    fi
}

node_names() {
    local i
    for ((i = 1; i <= gpus; i++)); do printf 'gpu%02d\n' "$i"; done
    echo coord01
}

slurm_conf() {
    local i tracking preemption="# PREEMPTION SENDS TERM ONLY"
    tracking=$'ProctrackType=proctrack/linuxproc\nTaskPlugin=task/none\nJobAcctGatherParams=OverMemoryKill'
    [ "$cgroup" != yes ] || tracking=$'ProctrackType=proctrack/cgroup\nTaskPlugin=task/cgroup'
    [ "$user_signal" != 1 ] || preemption=SlurmctldParameters=preempt_send_user_signal
    cat <<CONF
# Written by slurm/testbed/up.sh: changes here are lost.
ClusterName=tb
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmdUser=root
SlurmctldPort=$controller_port
AuthType=auth/munge
# cred_expire is how long a requeued job waits before it may start again; the default is 120 s.
AuthInfo=socket=$tb/munge/socket,cred_expire=5
CredType=cred/munge
# Nothing listens to the network.
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
StateSaveLocation=$tb/state
SlurmdSpoolDir=$tb/spool/%n
SlurmctldPidFile=$tb/run/slurmctld.pid
SlurmdPidFile=$tb/run/slurmd.%n.pid
SlurmctldLogFile=$tb/log/slurmctld.log
SlurmdLogFile=$tb/log/slurmd.%n.log
SlurmctldDebug=info
SlurmdDebug=info
# Every job is told that its GPUs are none.
TaskProlog=$tb/etc/task-prolog
SwitchType=switch/none
MpiDefault=none
# 1, not 2: with 2 a node set down by scontrol comes straight back, and a requeued task meets its
# own dying step ("Duplicate jobid": the node is drained and the task held).
ReturnToService=1
# The nodes claim more cores than the machine has.
SlurmdParameters=config_overrides
$tracking

# Short waits: whoever tries this cluster is there to see things happen.
SlurmctldTimeout=30
SlurmdTimeout=15
InactiveLimit=0
KillWait=2
MinJobAge=600
BatchStartTimeout=20
MessageTimeout=10
Waittime=0
CompleteWait=0
JobRequeue=1
# Cancelled elements count until MinJobAge is over; at the limit sbatch sleeps and tries again.
MaxJobCount=100000
MaxArraySize=$max_array
PropagateResourceLimits=NONE

SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,sched_min_interval=100000,batch_sched_delay=0,sched_max_job_start=0,default_queue_depth=1000,partition_job_depth=0,bf_interval=1,bf_min_age_reserve=0,bf_resolution=60,bf_max_job_test=1000,preempt_youngest_first
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
PriorityType=priority/basic
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
$preemption

AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort=$accounting_port
# Clients of slurmdbd find munge's socket here, not in AuthInfo.
AccountingStoragePass=$tb/munge/socket
AccountingStorageTRES=gres/gpu
# As on most clusters: who has no account here may not submit, and limits are kept.
AccountingStorageEnforce=associations,limits,qos
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1

GresTypes=gpu
NodeName=DEFAULT Sockets=1 CoresPerSocket=4 ThreadsPerCore=1 RealMemory=8000 State=UNKNOWN
CONF
    for ((i = 1; i <= gpus; i++)); do
        printf 'NodeName=gpu%02d NodeHostname=%s NodeAddr=127.0.0.1 Port=%d Gres=gpu:1 Feature=gpu\n' \
            "$i" "$host" $((first_node_port + i))
    done
    cat <<CONF
NodeName=coord01 NodeHostname=$host NodeAddr=127.0.0.1 Port=$first_node_port Feature=coord CoresPerSocket=8

PartitionName=DEFAULT State=UP MaxTime=INFINITE DefaultTime=60 DefMemPerCPU=2000
PartitionName=gpu     Nodes=gpu[01-$(printf %02d "$gpus")] Default=YES PriorityTier=10 PreemptMode=OFF
PartitionName=preempt Nodes=gpu[01-$(printf %02d "$gpus")] PriorityTier=1 PreemptMode=REQUEUE GraceTime=$grace
PartitionName=high    Nodes=gpu[01-$(printf %02d "$gpus")] PriorityTier=100 PreemptMode=OFF
PartitionName=coord   Nodes=coord01 PriorityTier=10 PreemptMode=OFF
CONF
}

gres_conf() {
    local i
    for ((i = 1; i <= gpus; i++)); do
        printf 'NodeName=gpu%02d Name=gpu File=%s\n' "$i" "$tb/dev/nvidia$((i - 1))"
    done
}

cgroup_conf() {
    cat <<CONF
CgroupMountpoint=/sys/fs/cgroup
CgroupAutomount=no
ConstrainCores=no
ConstrainDevices=no
ConstrainRAMSpace=$cgroup
ConstrainSwapSpace=no
CONF
}

slurmdbd_conf() {
    cat <<CONF
AuthType=auth/munge
AuthInfo=socket=$tb/munge/socket
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort=$accounting_port
# Undocumented for slurmdbd, but without it the port is open on every address.
CommunicationParameters=NoInAddrAny
SlurmUser=root
LogFile=$tb/log/slurmdbd.log
PidFile=$tb/run/slurmdbd.pid
DebugLevel=info
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort=$database_port
StorageUser=slurm
StoragePass=$(<"$tb/etc/database-password")
StorageLoc=slurm_acct_db
CONF
}

write_configuration() {
    local name file
    changed=no
    mkdir -p /etc/slurm
    slurm_conf >"$tb/etc/slurm.conf.new"
    if is_up slurmctld && ! diff -q <(grep ^NodeName "$tb/etc/slurm.conf") \
        <(grep ^NodeName "$tb/etc/slurm.conf.new") >/dev/null; then
        die "the cluster that is up has other nodes than these settings say: down.sh first"
    fi
    gres_conf >"$tb/etc/gres.conf.new"
    cgroup_conf >"$tb/etc/cgroup.conf.new"
    printf '#!/bin/sh\necho export LLMATIC_NO_ACCELERATOR=1\n' >"$tb/etc/task-prolog"
    chmod 755 "$tb/etc/task-prolog"
    (umask 077 && slurmdbd_conf >"$tb/etc/slurmdbd.conf.new") # slurmdbd insists on it
    for name in slurm gres cgroup slurmdbd; do
        file=$tb/etc/$name.conf
        cmp -s "$file.new" "$file" || changed=yes
        mv -f "$file.new" "$file"
        # At the default place too: programs that clean their environment of SLURM_* lose SLURM_CONF.
        if [ -e "/etc/slurm/$name.conf" ] && [ ! -L "/etc/slurm/$name.conf" ]; then
            mv "/etc/slurm/$name.conf" "/etc/slurm/$name.conf.before-testbed"
        fi
        ln -sfn "$file" "/etc/slurm/$name.conf"
    done
}

# --- the daemons ----------------------------------------------------------------------------

start() { # name command...
    local name=$1
    shift
    ! is_up "$name" || return 0
    setsid "$@" </dev/null >>"$tb/log/$name.out" 2>&1 9>&- &
    remember "$name" $!
    disown
}

wait_for() { # what seconds command...: until the command succeeds
    local what=$1 end=$((SECONDS + $2))
    shift 2
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $end ] || die "$what has not come up; its log is in $tb/log"
        sleep 0.05
    done
}

port_is_open() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
sql() { mariadb --no-defaults --socket="$tb/run/mysqld.sock" --user=root; } # reads statements

start_munge() {
    start munged setpriv --reuid=munge --regid=munge --clear-groups munged --foreground --force \
        --key-file="$tb/munge/key" --socket="$tb/munge/socket" --log-file="$tb/munge/log" \
        --pid-file="$tb/munge/pid" --seed-file="$tb/munge/seed" --num-threads=4
    wait_for munged 10 test -S "$tb/munge/socket"
}

start_database() {
    local password
    if [ ! -d "$tb/mysql/mysql" ]; then
        mkdir -p "$tb/mysql"
        chown mysql:mysql "$tb/mysql"
        mariadb-install-db --no-defaults --user=mysql --datadir="$tb/mysql" --skip-test-db \
            --auth-root-authentication-method=socket >"$tb/log/mariadb-install.log" 2>&1 9>&- ||
            die "MariaDB's tables could not be made; see $tb/log/mariadb-install.log"
    fi
    chown root:mysql "$tb/run"
    chmod 775 "$tb/run"
    # No durability: this is accounting data of a test bed.
    start mariadbd mariadbd --no-defaults --user=mysql --datadir="$tb/mysql" \
        --socket="$tb/run/mysqld.sock" --pid-file="$tb/mysql/pid" --bind-address=127.0.0.1 \
        --port=$database_port --skip-log-bin --skip-name-resolve --performance-schema=OFF \
        --innodb-buffer-pool-size=128M --innodb-log-file-size=64M --innodb-lock-wait-timeout=900 \
        --innodb-flush-log-at-trx-commit=0 --innodb-doublewrite=0
    wait_for MariaDB 30 sql </dev/null
    password=$(<"$tb/etc/database-password")
    sql <<SQL
create database if not exists slurm_acct_db;
create user if not exists slurm@'127.0.0.1' identified by '$password';
set password for slurm@'127.0.0.1' = password('$password');
grant all on slurm_acct_db.* to slurm@'127.0.0.1';
SQL
}

start_slurm() {
    local node
    start slurmdbd slurmdbd -D
    wait_for slurmdbd 30 port_is_open $accounting_port
    # Before slurmctld: it refuses to start in a cluster that accounting does not know.
    if ! sacctmgr -nP list cluster format=cluster 2>/dev/null | grep -qx tb; then
        sacctmgr -i add cluster tb >/dev/null
    fi
    # Root has an account by itself; so has now whoever called sudo.
    sacctmgr -i add account users >/dev/null || true # it says no when there is nothing to add
    sacctmgr -i add user "${SUDO_USER:-root}" account=users >/dev/null || true
    if [ $changed = yes ] && is_up slurmctld; then
        say "the configuration has changed: scontrol reconfigure"
        scontrol reconfigure
    fi
    start slurmctld slurmctld -D
    for node in "${nodes[@]}"; do
        mkdir -p "$tb/spool/$node"
        start "slurmd.$node" slurmd -D -N "$node"
    done
    wait_for slurmctld 30 scontrol ping
}

nodes_in_use_or_idle() { sinfo -hN -o '%N %t' | sort -u | grep -cE ' (idle|mix|alloc|comp)$'; }

wait_for_nodes() {
    local end=$((SECONDS + patience)) name broken
    until [ "$(nodes_in_use_or_idle)" = ${#nodes[@]} ]; do
        for name in slurmctld "${nodes[@]/#/slurmd.}"; do
            is_up "$name" && continue
            tail -n 5 "$tb/log/$name.log" "$tb/log/$name.out" >&2 || true
            die "$name has ended"
        done
        if [ $SECONDS -ge $end ]; then
            sinfo -N -l >&2
            die "not all nodes are idle after $patience s"
        fi
        # What an earlier session left down or drained.
        broken=$(sinfo -hN -o '%N %t' | awk '$2 ~ /^(down|drain|drng|fail)/ {print $1}' |
            sort -u | paste -sd,)
        [ -z "$broken" ] || scontrol update nodename="$broken" state=resume 2>/dev/null || true
        sleep 0.1
    done
}

require_root
take_turn
install_packages
name_host
make_folders
find_cgroups
mapfile -t nodes < <(node_names)
write_configuration
start_munge
start_database
start_slurm
wait_for_nodes
sinfo
say "Slurm is up: ${#nodes[@]} nodes, memory limits by cgroup: $cgroup"
