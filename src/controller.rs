//! The controller: context, partition and replica states, elections, topic creation and deletion.
