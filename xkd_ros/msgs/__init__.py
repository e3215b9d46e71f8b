"""ROS messages to numpy and back, for rclpy and rosbags objects alike; message classes are passed in, never imported."""
